/* suite HOST:PORT: what programs do with ZooKeeper's C client, against one server that is killed and restarted on the
 * way by whoever reads requests from descriptor 3 and answers on 4 (play_with_restarts of ../lib.sh).
 * suite HOST:PORT watcher TIMEOUT_MS: a client in a process of its own, to be stopped and killed; see watcher().
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include <zookeeper/zookeeper.h>

enum { PATIENCE_S = 30, SESSION_MS = 30000, EVENTS_MAX = 64, TEXT_MAX = 256 };

static const char *servers;
static const char *running = "start";

static void fail(const char *file, int line, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    printf("FAILED: %s (%s:%d): ", running, file, line);
    vprintf(format, arguments);
    printf("\n");
    fflush(stdout);
    va_end(arguments);
    _exit(1);
}

#define THAT(condition, ...) ((condition) ? (void)0 : fail("suite.c", __LINE__, __VA_ARGS__))
#define RC(expected, call)                                                                                  \
    do {                                                                                                    \
        int rc_ = (call);                                                                                   \
        THAT(rc_ == (expected), "%s: %d (%s) instead of %d", #call, rc_, zerror(rc_), (expected));          \
    } while (0)

static long now_ms(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static void pause_briefly(void) {
    nanosleep(&(struct timespec){.tv_nsec = 10 * 1000 * 1000}, NULL);
}

/* Evaluates the condition again and again until it holds. */
#define EVENTUALLY(condition)                                                                               \
    do {                                                                                                    \
        for (long until_ = now_ms() + PATIENCE_S * 1000L; !(condition); pause_briefly())                    \
            THAT(now_ms() < until_, "not within %d s: %s", PATIENCE_S, #condition);                         \
    } while (0)

/* ---- events, in the order in which they came */

static pthread_mutex_t events_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t events_more = PTHREAD_COND_INITIALIZER;
static char events[EVENTS_MAX][TEXT_MAX];
static int events_count;

static const char *event_name(int type) {
    return type == ZOO_CREATED_EVENT   ? "created"
           : type == ZOO_DELETED_EVENT ? "deleted"
           : type == ZOO_CHANGED_EVENT ? "changed"
           : type == ZOO_CHILD_EVENT   ? "children"
                                       : "other";
}

/* The context of a watcher is the prefix of what it notes. */
static void note(zhandle_t *zh, int type, int state, const char *path, void *context) {
    (void)zh;
    if (type == ZOO_SESSION_EVENT) {
        return;
    }
    pthread_mutex_lock(&events_lock);
    THAT(events_count < EVENTS_MAX, "too many events");
    THAT(state == ZOO_CONNECTED_STATE, "event in state %d", state);
    snprintf(events[events_count++], TEXT_MAX, "%s%s %s", (const char *)context, event_name(type), path);
    pthread_cond_broadcast(&events_more);
    pthread_mutex_unlock(&events_lock);
}

static void await_events(int count) {
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += PATIENCE_S;
    pthread_mutex_lock(&events_lock);
    while (events_count < count) {
        int rc = pthread_cond_timedwait(&events_more, &events_lock, &until);
        THAT(rc == 0, "%d events instead of %d, the last is: %s", events_count, count,
             events_count ? events[events_count - 1] : "-");
    }
    pthread_mutex_unlock(&events_lock);
}

/* Waits for as many events as texts, which must be the next ones, in order; then forgets them. */
static void expect_events(int count, ...) {
    await_events(count);
    pthread_mutex_lock(&events_lock);
    va_list texts;
    va_start(texts, count);
    for (int i = 0; i < count; i++) {
        const char *text = va_arg(texts, const char *);
        THAT(strcmp(events[i], text) == 0, "event %d is '%s' instead of '%s'", i, events[i], text);
    }
    va_end(texts);
    THAT(events_count == count, "%d events instead of %d: %s", events_count, count, events[count]);
    events_count = 0;
    pthread_mutex_unlock(&events_lock);
}

/* ---- connections */

static zhandle_t *connected(const clientid_t *id, int timeout_ms) {
    zhandle_t *zh = zookeeper_init(servers, note, timeout_ms, id, "", 0);
    THAT(zh != NULL, "zookeeper_init: %s", strerror(errno));
    EVENTUALLY(zoo_state(zh) == ZOO_CONNECTED_STATE);
    return zh;
}

static void create(zhandle_t *zh, const char *path, const char *data, int mode) {
    RC(ZOK, zoo_create(zh, path, data, data ? (int)strlen(data) : -1, &ZOO_OPEN_ACL_UNSAFE, mode, NULL, 0));
}

static int exists(zhandle_t *zh, const char *path) {
    struct Stat stat;
    int rc = zoo_exists(zh, path, 0, &stat);
    THAT(rc == ZOK || rc == ZNONODE || rc == ZCONNECTIONLOSS, "exists %s: %d", path, rc);
    return rc == ZOK;
}

static void ask(const char *request) {
    char answer[TEXT_MAX] = "";
    int length = 0;
    dprintf(3, "%s\n", request);
    while (length < TEXT_MAX - 1 && read(4, answer + length, 1) == 1 && answer[length] != '\n') {
        length++;
    }
    answer[length] = 0;
    THAT(strcmp(answer, request) == 0, "asked for '%s', answered '%s'", request, answer);
}

/* ---- the client in a process of its own */

/* Makes an ephemeral, sets one watch of each kind, says its session, then every event as a line. */
static void watcher(int timeout_ms) {
    char buffer[TEXT_MAX];
    int length = sizeof buffer;
    struct Stat stat;
    struct String_vector names;
    running = "watcher";
    zhandle_t *zh = connected(NULL, timeout_ms);
    create(zh, "/watched/ephemeral", "mine", ZOO_EPHEMERAL);
    RC(ZOK, zoo_wget(zh, "/watched/data", note, "", buffer, &length, &stat));
    length = sizeof buffer;
    RC(ZOK, zoo_wget(zh, "/watched/deleted", note, "", buffer, &length, &stat));
    length = sizeof buffer;
    RC(ZOK, zoo_wget(zh, "/watched/untouched", note, "", buffer, &length, &stat));
    RC(ZNONODE, zoo_wexists(zh, "/watched/born", note, "", &stat));
    RC(ZOK, zoo_wget_children(zh, "/watched/parent", note, "", &names));
    deallocate_String_vector(&names);
    const clientid_t *id = zoo_client_id(zh);
    printf("%llx ", (unsigned long long)id->client_id);
    for (int i = 0; i < 16; i++) {
        printf("%02x", (unsigned char)id->passwd[i]);
    }
    printf("\n");
    for (int said = 0;; said++) {
        fflush(stdout);
        pthread_mutex_lock(&events_lock);
        while (events_count == said) {
            pthread_cond_wait(&events_more, &events_lock);
        }
        printf("%llx %s\n", (unsigned long long)zoo_client_id(zh)->client_id, events[said]);
        pthread_mutex_unlock(&events_lock);
    }
}

struct process {
    pid_t pid;
    FILE *output;
    clientid_t id;
};

static struct process start_watcher(const char *timeout_ms) {
    struct process process;
    int ends[2];
    THAT(pipe(ends) == 0, "pipe: %s", strerror(errno));
    process.pid = fork();
    if (process.pid == 0) {
        dup2(ends[1], 1);
        close(ends[0]);
        close(ends[1]);
        close(3);
        close(4);
        execl("/proc/self/exe", "suite", servers, "watcher", timeout_ms, (char *)NULL);
        _exit(127);
    }
    close(ends[1]);
    THAT(process.pid > 0, "fork: %s", strerror(errno));
    process.output = fdopen(ends[0], "r");
    char line[TEXT_MAX] = "";
    unsigned long long session;
    int at;
    THAT(fgets(line, sizeof line, process.output) && sscanf(line, "%llx %n", &session, &at) == 1, "watcher: %s", line);
    process.id.client_id = (int64_t)session;
    for (int i = 0; i < 16; i++) {
        unsigned byte;
        THAT(sscanf(line + at + 2 * i, "%2x", &byte) == 1, "watcher: %s", line);
        process.id.passwd[i] = (char)byte;
    }
    return process;
}

static void end(struct process *process) {
    kill(process->pid, SIGKILL);
    waitpid(process->pid, NULL, 0);
    fclose(process->output);
}

static void make_watched(zhandle_t *zh) {
    create(zh, "/watched", "", ZOO_PERSISTENT);
    create(zh, "/watched/data", "old", ZOO_PERSISTENT);
    create(zh, "/watched/deleted", "old", ZOO_PERSISTENT);
    create(zh, "/watched/untouched", "old", ZOO_PERSISTENT);
    create(zh, "/watched/parent", "", ZOO_PERSISTENT);
}

/* ---- cases */

static void handshake(zhandle_t *zh) {
    const clientid_t *id = zoo_client_id(zh);
    static const char zeros[16];
    THAT(id->client_id != 0 && memcmp(id->passwd, zeros, 16) != 0, "no session id or password");
    THAT(zoo_recv_timeout(zh) == SESSION_MS, "timeout %d", zoo_recv_timeout(zh));
    zhandle_t *clamped = connected(NULL, 600);
    THAT(zoo_recv_timeout(clamped) == 1000, "timeout %d instead of the least", zoo_recv_timeout(clamped));
    RC(ZOK, zookeeper_close(clamped));
    clamped = connected(NULL, 1000000);
    THAT(zoo_recv_timeout(clamped) == 60000, "timeout %d instead of the most", zoo_recv_timeout(clamped));
    RC(ZOK, zookeeper_close(clamped));
}

static void modes(zhandle_t *zh) {
    char path[TEXT_MAX];
    struct Stat stat;
    create(zh, "/modes", "", ZOO_PERSISTENT);
    RC(ZOK, zoo_create(zh, "/modes/n-", "x", 1, &ZOO_OPEN_ACL_UNSAFE, ZOO_PERSISTENT_SEQUENTIAL, path, sizeof path));
    THAT(strcmp(path, "/modes/n-0000000000") == 0, "%s", path);
    RC(ZOK, zoo_create2(zh, "/modes/n-", "xyz", 3, &ZOO_OPEN_ACL_UNSAFE, ZOO_EPHEMERAL_SEQUENTIAL, path, sizeof path,
                        &stat));
    THAT(strcmp(path, "/modes/n-0000000001") == 0, "%s", path);
    THAT(stat.ephemeralOwner == zoo_client_id(zh)->client_id, "owner %llx", (long long)stat.ephemeralOwner);
    THAT(stat.czxid == stat.mzxid && stat.czxid == stat.pzxid && stat.ctime == stat.mtime && stat.dataLength == 3 &&
             stat.version == 0 && stat.cversion == 0 && stat.aversion == 0 && stat.numChildren == 0,
         "Stat of a new znode");
    RC(ZOK, zoo_create2_ttl(zh, "/modes/late", "", 0, &ZOO_OPEN_ACL_UNSAFE, ZOO_PERSISTENT_WITH_TTL, 1000000, path,
                            sizeof path, &stat));
    THAT(stat.ephemeralOwner == 0, "owner of a TTL znode");
    RC(ZOK, zoo_create_ttl(zh, "/modes/soon", "", 0, &ZOO_OPEN_ACL_UNSAFE, ZOO_PERSISTENT_WITH_TTL, 1, path, sizeof path));
    RC(ZOK, zoo_create_ttl(zh, "/modes/s-", "", 0, &ZOO_OPEN_ACL_UNSAFE, ZOO_PERSISTENT_SEQUENTIAL_WITH_TTL, 1000000, path,
                           sizeof path));
    THAT(strcmp(path, "/modes/s-0000000004") == 0, "%s", path);
    create(zh, "/modes/container", "", ZOO_CONTAINER);
    create(zh, "/modes/container/child", "", ZOO_PERSISTENT);
    RC(ZOK, zoo_delete(zh, "/modes/container/child", -1));
    EVENTUALLY(!exists(zh, "/modes/container"));
    EVENTUALLY(!exists(zh, "/modes/soon"));
    THAT(exists(zh, "/modes/late"), "a TTL of 1000 s is over");
}

static void data(zhandle_t *zh) {
    static char big[1200000];
    char buffer[TEXT_MAX];
    struct Stat stat;
    int length = sizeof buffer;
    create(zh, "/data", NULL, ZOO_PERSISTENT);
    RC(ZOK, zoo_get(zh, "/data", 0, buffer, &length, &stat));
    THAT(length == -1 && stat.dataLength == 0, "null came back with length %d", length);
    RC(ZOK, zoo_set2(zh, "/data", "", 0, 0, &stat));
    length = sizeof buffer;
    RC(ZOK, zoo_get(zh, "/data", 0, buffer, &length, &stat));
    THAT(length == 0 && stat.version == 1, "empty came back with length %d", length);
    RC(ZOK, zoo_set(zh, "/data", "a\0b\xff", 4, -1));
    length = sizeof buffer;
    RC(ZOK, zoo_get(zh, "/data", 0, buffer, &length, &stat));
    THAT(length == 4 && memcmp(buffer, "a\0b\xff", 4) == 0, "bytes changed");
    for (size_t i = 0; i < sizeof big; i++) {
        big[i] = (char)(i * 7 + i / 251);
    }
    RC(ZOK, zoo_set(zh, "/data", big, 1000000, -1));
    char *back = malloc(sizeof big);
    length = sizeof big;
    RC(ZOK, zoo_get(zh, "/data", 0, back, &length, &stat));
    THAT(length == 1000000 && memcmp(back, big, 1000000) == 0, "a megabyte changed");
    free(back);
    /* Over jute.maxbuffer: the connection is closed, the session is not. */
    int64_t session = zoo_client_id(zh)->client_id;
    RC(ZCONNECTIONLOSS, zoo_set(zh, "/data", big, sizeof big, -1));
    EVENTUALLY(zoo_state(zh) == ZOO_CONNECTED_STATE);
    THAT(zoo_client_id(zh)->client_id == session, "another session");
    RC(ZOK, zoo_exists(zh, "/data", 0, &stat));
    THAT(stat.dataLength == 1000000 && stat.version == 3, "the refused data was written");
}

static void errors(zhandle_t *zh) {
    struct Stat stat;
    create(zh, "/errors", "", ZOO_PERSISTENT);
    create(zh, "/errors/ephemeral", "", ZOO_EPHEMERAL);
    RC(ZNODEEXISTS, zoo_create(zh, "/errors", "", 0, &ZOO_OPEN_ACL_UNSAFE, 0, NULL, 0));
    RC(ZNONODE, zoo_create(zh, "/errors/none/child", "", 0, &ZOO_OPEN_ACL_UNSAFE, 0, NULL, 0));
    RC(ZNOCHILDRENFOREPHEMERALS, zoo_create(zh, "/errors/ephemeral/child", "", 0, &ZOO_OPEN_ACL_UNSAFE, 0, NULL, 0));
    RC(ZNOTEMPTY, zoo_delete(zh, "/errors", -1));
    RC(ZBADVERSION, zoo_delete(zh, "/errors/ephemeral", 3));
    RC(ZBADVERSION, zoo_set(zh, "/errors", "x", 1, 3));
    RC(ZNONODE, zoo_set(zh, "/errors/none", "x", 1, -1));
    RC(ZNONODE, zoo_exists(zh, "/errors/none", 0, &stat));
    RC(ZBADARGUMENTS, zoo_delete(zh, "/", -1));
    RC(ZBADARGUMENTS, zoo_delete(zh, "/zookeeper", -1));
    struct ACL_vector nobody = {0, NULL};
    RC(ZINVALIDACL, zoo_create(zh, "/errors/acl", "", 0, &nobody, 0, NULL, 0));
}

static void multi(zhandle_t *zh) {
    char path[3][TEXT_MAX];
    struct Stat stat[2];
    zoo_op_t ops[7];
    zoo_op_result_t results[7];
    create(zh, "/multi", "old", ZOO_PERSISTENT);
    zoo_check_op_init(&ops[0], "/multi", 0);
    zoo_create_op_init(&ops[1], "/multi/parent", "", 0, &ZOO_OPEN_ACL_UNSAFE, 0, path[0], TEXT_MAX);
    zoo_create_op_init(&ops[2], "/multi/parent/n-", "x", 1, &ZOO_OPEN_ACL_UNSAFE, ZOO_SEQUENCE, path[1], TEXT_MAX);
    zoo_set_op_init(&ops[3], "/multi", "new", 3, 0, &stat[0]);
    zoo_set_op_init(&ops[4], "/multi", "newer", 5, 1, &stat[1]);
    zoo_create_op_init(&ops[5], "/multi/gone", "", 0, &ZOO_OPEN_ACL_UNSAFE, ZOO_EPHEMERAL, path[2], TEXT_MAX);
    zoo_delete_op_init(&ops[6], "/multi/gone", 0);
    RC(ZOK, zoo_multi(zh, 7, ops, results));
    for (int i = 0; i < 7; i++) {
        THAT(results[i].err == ZOK, "part %d: %d", i, results[i].err);
    }
    THAT(strcmp(path[1], "/multi/parent/n-0000000000") == 0, "%s", path[1]);
    THAT(stat[0].version == 1 && stat[1].version == 2 && stat[0].mzxid == stat[1].mzxid, "Stats of the parts");
    THAT(stat[1].dataLength == 5, "length %d", stat[1].dataLength);
    THAT(!exists(zh, "/multi/gone") && exists(zh, "/multi/parent/n-0000000000"), "what the multi made");

    zoo_set_op_init(&ops[0], "/multi", "never", 5, -1, &stat[0]);
    zoo_create_op_init(&ops[1], "/multi/parent/n-", "x", 1, &ZOO_OPEN_ACL_UNSAFE, ZOO_SEQUENCE, path[1], TEXT_MAX);
    zoo_delete_op_init(&ops[2], "/multi", -1);
    zoo_check_op_init(&ops[3], "/multi", 0);
    RC(ZNOTEMPTY, zoo_multi(zh, 4, ops, results));
    const int expected[] = {ZOK, ZOK, ZNOTEMPTY, ZRUNTIMEINCONSISTENCY};
    for (int i = 0; i < 4; i++) {
        THAT(results[i].err == expected[i], "part %d: %d instead of %d", i, results[i].err, expected[i]);
    }
    RC(ZOK, zoo_exists(zh, "/multi", 0, &stat[0]));
    THAT(stat[0].version == 2, "a failed multi wrote");
    RC(ZOK, zoo_create(zh, "/multi/parent/n-", "", 0, &ZOO_OPEN_ACL_UNSAFE, ZOO_SEQUENCE, path[0], TEXT_MAX));
    THAT(strcmp(path[0], "/multi/parent/n-0000000001") == 0, "a failed multi took a number: %s", path[0]);
}

static void watches(zhandle_t *zh) {
    char buffer[TEXT_MAX];
    int length = sizeof buffer;
    struct Stat stat;
    struct String_vector names;
    create(zh, "/watches", "", ZOO_PERSISTENT);
    RC(ZNONODE, zoo_wexists(zh, "/watches/x", note, "exists: ", &stat));
    RC(ZOK, zoo_wget_children2(zh, "/watches", note, "list: ", &names, &stat));
    deallocate_String_vector(&names);
    create(zh, "/watches/x", "1", ZOO_PERSISTENT);
    expect_events(2, "exists: created /watches/x", "list: children /watches");
    RC(ZOK, zoo_wget(zh, "/watches/x", note, "get: ", buffer, &length, &stat));
    RC(ZOK, zoo_set(zh, "/watches/x", "2", 1, -1));
    RC(ZOK, zoo_set(zh, "/watches/x", "3", 1, -1));
    expect_events(1, "get: changed /watches/x");
    length = sizeof buffer;
    RC(ZOK, zoo_wget(zh, "/watches/x", note, "get: ", buffer, &length, &stat));
    RC(ZOK, zoo_wget_children(zh, "/watches", note, "list: ", &names));
    deallocate_String_vector(&names);
    RC(ZOK, zoo_delete(zh, "/watches/x", -1));
    expect_events(2, "get: deleted /watches/x", "list: children /watches");
    /* Taken back, a watch tells nothing, and there is none to take back. */
    create(zh, "/watches/y", "1", ZOO_PERSISTENT);
    length = sizeof buffer;
    RC(ZOK, zoo_wget(zh, "/watches/y", note, "removed: ", buffer, &length, &stat));
    RC(ZOK, zoo_remove_all_watches(zh, "/watches/y", ZWATCHTYPE_DATA, 0));
    RC(ZNOWATCHER, zoo_remove_all_watches(zh, "/watches/y", ZWATCHTYPE_DATA, 0));
    RC(ZOK, zoo_set(zh, "/watches/y", "2", 1, -1));
    RC(ZOK, zoo_wget_children(zh, "/watches/y", note, "list: ", &names));
    deallocate_String_vector(&names);
    create(zh, "/watches/y/z", "", ZOO_PERSISTENT);
    expect_events(1, "list: children /watches/y");
}

static int authorized;

static void auth_done(int rc, const void *data) {
    (void)data;
    __atomic_store_n(&authorized, rc == ZOK ? 1 : -1, __ATOMIC_SEQ_CST);
}

static void acls(zhandle_t *stranger) {
    char buffer[TEXT_MAX];
    int length = sizeof buffer;
    struct Stat stat;
    struct ACL_vector acl;
    zhandle_t *owner = connected(NULL, SESSION_MS);
    RC(ZOK, zoo_add_auth(owner, "digest", "owner:secret", 12, auth_done, NULL));
    EVENTUALLY(__atomic_load_n(&authorized, __ATOMIC_SEQ_CST) == 1);
    RC(ZOK, zoo_create(owner, "/acl", "secret", 6, &ZOO_CREATOR_ALL_ACL, 0, NULL, 0));
    RC(ZNOAUTH, zoo_get(stranger, "/acl", 0, buffer, &length, &stat));
    RC(ZNOAUTH, zoo_set(stranger, "/acl", "x", 1, -1));
    RC(ZNOAUTH, zoo_create(stranger, "/acl/child", "", 0, &ZOO_OPEN_ACL_UNSAFE, 0, NULL, 0));
    RC(ZNOAUTH, zoo_set_acl(stranger, "/acl", -1, &ZOO_OPEN_ACL_UNSAFE));
    RC(ZINVALIDACL, zoo_create(stranger, "/acl-2", "", 0, &ZOO_CREATOR_ALL_ACL, 0, NULL, 0));
    RC(ZOK, zoo_get_acl(owner, "/acl", &acl, &stat));
    THAT(acl.count == 1 && acl.data[0].perms == ZOO_PERM_ALL && strcmp(acl.data[0].id.scheme, "digest") == 0 &&
             strcmp(acl.data[0].id.id, "owner:Vj++wdU3sMAbt+g9TyKj1BT+usI=") == 0,
         "ACL %s:%s", acl.data[0].id.scheme, acl.data[0].id.id);
    struct ACL two[] = {acl.data[0], {ZOO_PERM_READ, {"ip", "127.0.0.1"}}};
    struct ACL_vector readable = {2, two};
    RC(ZBADVERSION, zoo_set_acl(owner, "/acl", 5, &readable));
    RC(ZOK, zoo_set_acl(owner, "/acl", 0, &readable));
    deallocate_ACL_vector(&acl);
    length = sizeof buffer;
    RC(ZOK, zoo_get(stranger, "/acl", 0, buffer, &length, &stat));
    THAT(stat.aversion == 1 && stat.version == 0, "versions %d, %d", stat.aversion, stat.version);
    RC(ZNOAUTH, zoo_set(stranger, "/acl", "x", 1, -1));
    RC(ZOK, zoo_set(owner, "/acl", "x", 1, -1));
    RC(ZOK, zookeeper_close(owner));
}

enum { PIPELINED = 2000 };
static int completed;

static void in_order(int rc, const struct Stat *stat, const void *number) {
    int expected = __atomic_fetch_add(&completed, 1, __ATOMIC_SEQ_CST);
    THAT(rc == ZOK && (long)number == expected && stat->version == expected + 1, "reply %ld: %d, after %d others",
         (long)number, rc, expected);
}

static void pipelining(zhandle_t *zh) {
    create(zh, "/pipelined", "", ZOO_PERSISTENT);
    for (long i = 0; i < PIPELINED; i++) {
        RC(ZOK, zoo_aset(zh, "/pipelined", "x", 1, (int)i, in_order, (void *)i));
    }
    EVENTUALLY(__atomic_load_n(&completed, __ATOMIC_SEQ_CST) == PIPELINED);
}

static int synced;

static void sync_done(int rc, const char *path, const void *data) {
    (void)data;
    __atomic_store_n(&synced, rc == ZOK && strcmp(path, "/pipelined") == 0 ? 1 : -1, __ATOMIC_SEQ_CST);
}

static void syncing(zhandle_t *zh) {
    RC(ZOK, zoo_async(zh, "/pipelined", sync_done, NULL));
    EVENTUALLY(__atomic_load_n(&synced, __ATOMIC_SEQ_CST) != 0);
    THAT(synced == 1, "sync failed");
}

/* The watcher is stopped while the server is killed and its znodes change: setWatches tells it, once each. */
static void restart(zhandle_t *zh) {
    char path[TEXT_MAX], line[TEXT_MAX], expected[6][TEXT_MAX];
    struct Stat before, after;
    int64_t session = zoo_client_id(zh)->client_id;
    make_watched(zh);
    create(zh, "/restart", "kept", ZOO_EPHEMERAL);
    RC(ZOK, zoo_exists(zh, "/restart", 0, &before));
    struct process process = start_watcher("30000");
    kill(process.pid, SIGSTOP);
    ask("restart");
    EVENTUALLY(zoo_state(zh) == ZOO_CONNECTED_STATE && exists(zh, "/restart"));
    THAT(zoo_client_id(zh)->client_id == session, "another session");
    RC(ZOK, zoo_exists(zh, "/restart", 0, &after));
    THAT(memcmp(&before, &after, sizeof after) == 0, "the ephemeral's Stat changed");
    RC(ZOK, zoo_create(zh, "/modes/n-", "", 0, &ZOO_OPEN_ACL_UNSAFE, ZOO_SEQUENCE, path, sizeof path));
    THAT(strcmp(path, "/modes/n-0000000006") == 0, "the sequence goes on with %s", path);

    RC(ZOK, zoo_set(zh, "/watched/data", "new", 3, 0));
    RC(ZOK, zoo_delete(zh, "/watched/deleted", -1));
    create(zh, "/watched/born", "", ZOO_PERSISTENT);
    create(zh, "/watched/parent/child", "", ZOO_PERSISTENT);
    kill(process.pid, SIGCONT);
    const char *texts[] = {"changed /watched/data", "deleted /watched/deleted", "created /watched/born",
                           "children /watched/parent", "changed /watched/untouched"};
    int seen = 0;
    for (int i = 0; i < 5; i++) {
        snprintf(expected[i], TEXT_MAX, "%llx %s\n", (unsigned long long)process.id.client_id, texts[i]);
    }
    for (int i = 0; i < 4; i++) {
        THAT(fgets(line, sizeof line, process.output) != NULL, "the watcher ended");
        int which = 0;
        while (which < 4 && strcmp(line, expected[which]) != 0) {
            which++;
        }
        THAT(which < 4 && !(seen & 1 << which), "unexpected or twice: %s", line);
        seen |= 1 << which;
    }
    RC(ZOK, zoo_set(zh, "/watched/data", "newer", 5, 1));
    RC(ZOK, zoo_set(zh, "/watched/untouched", "new", 3, 0));
    THAT(fgets(line, sizeof line, process.output) && strcmp(line, expected[4]) == 0, "the kept watch: %s", line);

    /* Killed; its session is resumed by id and password, and only with the right one. */
    end(&process);
    clientid_t wrong = process.id;
    wrong.passwd[5] ^= 1;
    zhandle_t *refused = zookeeper_init(servers, note, SESSION_MS, &wrong, "", 0);
    EVENTUALLY(zoo_state(refused) == ZOO_EXPIRED_SESSION_STATE);
    zookeeper_close(refused);
    zhandle_t *resumed = connected(&process.id, SESSION_MS);
    THAT(zoo_client_id(resumed)->client_id == process.id.client_id, "another session");
    RC(ZOK, zoo_exists(resumed, "/watched/ephemeral", 0, &after));
    THAT(after.ephemeralOwner == process.id.client_id, "owner %llx", (long long)after.ephemeralOwner);
    RC(ZOK, zookeeper_close(resumed));
    THAT(!exists(zh, "/watched/ephemeral"), "the ephemeral of a closed session");
    refused = zookeeper_init(servers, note, SESSION_MS, &process.id, "", 0);
    EVENTUALLY(zoo_state(refused) == ZOO_EXPIRED_SESSION_STATE);
    zookeeper_close(refused);
}

static void expiry(zhandle_t *zh) {
    RC(ZOK, zoo_delete(zh, "/watched/born", -1));
    create(zh, "/watched/deleted", "", ZOO_PERSISTENT);
    struct process process = start_watcher("1500");
    long started = now_ms();
    end(&process);
    EVENTUALLY(!exists(zh, "/watched/ephemeral"));
    long after = now_ms() - started;
    THAT(after >= 500 && after <= 15000, "deleted after %ld ms of 1500", after);
    zhandle_t *refused = zookeeper_init(servers, note, SESSION_MS, &process.id, "", 0);
    EVENTUALLY(zoo_state(refused) == ZOO_EXPIRED_SESSION_STATE);
    zookeeper_close(refused);
}

int main(int count, char **arguments) {
    static const struct {
        const char *name;
        void (*run)(zhandle_t *);
    } cases[] = {
        {"the handshake negotiates and gives credentials", handshake},
        {"znodes of all modes", modes},
        {"null, empty, binary and large data", data},
        {"errors", errors},
        {"multi as a whole or not at all", multi},
        {"one-shot watches of each kind, and their removal", watches},
        {"ACLs and authentication", acls},
        {"2000 pipelined writes are answered in order", pipelining},
        {"sync", syncing},
        {"watches and sessions over a restart of the server", restart},
        {"a dead client's ephemeral", expiry},
    };
    enum { CASES = sizeof cases / sizeof cases[0] };
    servers = count > 1 ? arguments[1] : "127.0.0.1:2181";
    zoo_set_debug_level(getenv("CLIENT_LOG") ? ZOO_LOG_LEVEL_DEBUG : 0);
    if (count == 4) {
        watcher(atoi(arguments[3]));
    }
    fcntl(3, F_SETFD, FD_CLOEXEC);
    fcntl(4, F_SETFD, FD_CLOEXEC);
    zhandle_t *zh = connected(NULL, SESSION_MS);
    for (int i = 0; i < CASES; i++) {
        running = cases[i].name;
        long started = now_ms();
        cases[i].run(zh);
        printf("    %-56s %5ld ms\n", running, now_ms() - started);
        fflush(stdout);
    }
    RC(ZOK, zookeeper_close(zh));
    printf("c: %d cases\n", CASES);
    return 0;
}
