'use strict';
// node-zookeeper-client: no readOnly byte, xids from 0, and any reply out of turn destroys its socket.

const assert = require('node:assert/strict');
const zookeeper = require('node-zookeeper-client');
const { Proxy, Watch, eventually, fails, server, test, within, DEADLINE } = require('./harness.js');

const { ACL, CreateMode, Event, Exception, Id, Permission, State } = zookeeper;
const FRAME_LIMIT = 0xfffff; // jute.maxbuffer's default, the frame's own length field not counted
const open = ACL.OPEN_ACL_UNSAFE;
const digest = (permission, id) => [new ACL(permission, new Id('digest', id))];
// What `echo -n user:password | openssl sha1 -binary | base64` gives.
const USER = 'user:tpUq/4Pn5A64fVZyQ0gOJ8ZWqkY=';
const OP = { create: 1, getData: 4, ping: 11, auth: 100, setWatches: 101 };

const is = (name) => (error) => error.getCode && error.getCode() === Exception[name];
const xid = (frame) => frame.readInt32BE(0);
const op = (frame) => frame.readInt32BE(4);

/** A client behind a proxy of its own; its operations give promises. Closed at the end of the test. */
async function client(context, { timeout = 15000, chroot = '', connect = true, ...options } = {}) {
  const proxy = await Proxy.open(context);
  const zk = zookeeper.createClient(`127.0.0.1:${proxy.port}${chroot}`, {
    sessionTimeout: timeout, spinDelay: 100, ...options,
  });
  const promised = (name) => (...args) => within(DEADLINE, `${name} is answered`, new Promise((resolve, reject) => {
    zk[name](...args, (error, ...results) => (error ? reject(error) : resolve(results)));
  }));
  const one = (name) => async (...args) => (await promised(name)(...args))[0];
  const me = {
    zk,
    proxy,
    states: [],
    create: (path, data = '', mode = CreateMode.PERSISTENT, acl = open) => one('create')(path, Buffer.from(data), acl, mode),
    createNull: one('create'),
    remove: one('remove'),
    removeRecursive: one('removeRecursive'),
    mkdirp: one('mkdirp'),
    set: (path, data, version = -1) => one('setData')(path, Buffer.from(data), version),
    exists: one('exists'),
    getACL: promised('getACL'),
    setACL: one('setACL'),
    get: async (...args) => String((await promised('getData')(...args))[0] ?? null),
    getWithStat: promised('getData'),
    children: async (...args) => (await one('getChildren')(...args)).sort(),
    childrenWithStat: promised('getChildren'),
    commit: (transaction) => within(DEADLINE, 'the transaction is answered', new Promise((resolve) => {
      transaction.commit((error, results) => resolve({ error, results }));
    })),
    session: () => zk.getSessionId().toString('hex'),
    state: (wanted) => eventually(`the client enters ${wanted}`, () => me.states.includes(wanted)),
    forget: () => { me.states = []; },
    close: async () => {
      if (zk.connectionManager.state === -2) return; // closed
      me.forget();
      zk.close();
      await me.state(State.DISCONNECTED);
    },
  };
  zk.on('state', (state) => me.states.push(state));
  context.after(async () => {
    proxy.cut(); // an open connection would be tried again for ever
    zk.removeAllListeners('state');
    zk.connectionManager.connect = () => {};
  });
  if (connect) {
    zk.connect();
    await me.state(State.SYNC_CONNECTED);
  }
  return me;
}

async function begin(context) {
  const zk = await client(context);
  await zk.create(context.root);
  return { zk, root: context.root };
}

const watched = (watch) => watch.seen.map(([event]) => `${event.getName()} ${event.getPath()}`);

test('javascript: the handshake has no readOnly byte and xids start at 0', async (context) => {
  const { zk, root } = await begin(context);
  await zk.get(root);
  const [connect, ...sent] = zk.proxy.sent.whole;
  const [answer, ...received] = zk.proxy.received.whole;
  assert.equal(connect.length, 44, 'a ConnectRequest without readOnly');
  assert.equal(answer.length, 36, 'a ConnectResponse without readOnly');
  assert.equal(answer.readInt32BE(4), 15000, 'the negotiated timeout');
  assert.equal(zk.zk.getSessionTimeout(), 15000);
  assert.deepEqual(sent.map(xid), [0, 1], 'xids from 0');
  assert.deepEqual(received.map(xid), [0, 1], 'xid 0 is echoed like any other');
});

test('javascript: the session timeout is clamped', async (context) => {
  for (const [wanted, granted] of [[900, 1000], [7000, 7000], [3600000, 60000]]) {
    const zk = await client(context, { timeout: wanted });
    assert.equal(zk.zk.getSessionTimeout(), granted, `the timeout granted for ${wanted}`);
  }
});

test('javascript: create modes', async (context) => {
  const { zk, root } = await begin(context);
  assert.equal(await zk.create(`${root}/p`, 'data'), `${root}/p`);
  const [data, stat] = await zk.getWithStat(`${root}/p`);
  assert.equal(String(data), 'data');
  assert.deepEqual([stat.version, stat.cversion, stat.aversion, stat.dataLength, stat.numChildren], [0, 0, 0, 4, 0]);
  assert.deepEqual([stat.mzxid, stat.pzxid], [stat.czxid, stat.czxid], 'the zxids of a fresh znode');
  assert.equal(stat.ephemeralOwner.readBigInt64BE(), 0n);
  await zk.create(`${root}/e`, '', CreateMode.EPHEMERAL);
  assert.equal((await zk.exists(`${root}/e`)).ephemeralOwner.toString('hex'), zk.session());
  await fails('a child of an ephemeral', zk.create(`${root}/e/child`), is('NO_CHILDREN_FOR_EPHEMERALS'));
  assert.equal(await zk.create(`${root}/s-`, '', CreateMode.PERSISTENT_SEQUENTIAL), `${root}/s-0000000002`);
  assert.equal(await zk.create(`${root}/s-`, '', CreateMode.EPHEMERAL_SEQUENTIAL), `${root}/s-0000000003`);
  await zk.createNull(`${root}/null`);
  await zk.create(`${root}/empty`);
  assert.equal((await zk.getWithStat(`${root}/null`))[0], undefined, 'null data stays null');
  assert.equal((await zk.getWithStat(`${root}/empty`))[0]?.length, 0, 'empty data stays empty');
  assert.equal(await zk.mkdirp(`${root}/a/b/c`), `${root}/a/b/c`);
  await zk.removeRecursive(`${root}/a/b`); // the client looks one level down only
  assert.equal(await zk.exists(`${root}/a/b`), null);
});

test('javascript: versions and errors', async (context) => {
  const { zk, root } = await begin(context);
  await zk.create(`${root}/x`, '0');
  await zk.create(`${root}/x/child`);
  const stat = await zk.set(`${root}/x`, 'one', 0);
  assert.deepEqual([stat.version, stat.dataLength], [1, 3]);
  assert.ok(stat.mzxid.compare(stat.czxid) > 0, 'set raises mzxid');
  await fails('set at an old version', zk.set(`${root}/x`, '', 0), is('BAD_VERSION'));
  await fails('set at version -2', zk.set(`${root}/x`, '', -2), is('BAD_VERSION'));
  await fails('remove at another version', zk.remove(`${root}/x/child`, 3), is('BAD_VERSION'));
  await fails('remove of a parent', zk.remove(`${root}/x`, -1), is('NOT_EMPTY'));
  await fails('remove of nothing', zk.remove(`${root}/none`, -1), is('NO_NODE'));
  await fails('remove of a reserved znode', zk.remove('/zookeeper/quota', -1), is('BAD_ARGUMENTS'));
  await fails('create of what is there', zk.create(`${root}/x`), is('NODE_EXISTS'));
  await fails('create below nothing', zk.create(`${root}/none/x`), is('NO_NODE'));
  await fails('create with a control character', zk.create(`${root}/\u0001`), is('BAD_ARGUMENTS'));
  await fails('create with an emoji', zk.create(`${root}/\u{1f600}`), is('BAD_ARGUMENTS'));
  await fails('get of nothing', zk.get(`${root}/none`), is('NO_NODE'));
  await fails('children of nothing', zk.children(`${root}/none`), is('NO_NODE'));
  assert.equal(await zk.exists(`${root}/none`), null);
  await zk.remove(`${root}/x/child`, 0);
  const [names, parent] = await zk.childrenWithStat(`${root}/x`);
  assert.deepEqual(names, []);
  assert.deepEqual([parent.cversion, parent.numChildren, parent.version], [2, 0, 1]);
});

test('javascript: unicode names', async (context) => {
  const { zk, root } = await begin(context);
  const names = ['ñandú', '日本語', 'a b', '...', '\uf900', 'x'.repeat(1000)].sort();
  for (const name of names) assert.equal(await zk.create(`${root}/${name}`, name), `${root}/${name}`);
  assert.deepEqual(await zk.children(root), names);
  for (const name of names) assert.equal(await zk.get(`${root}/${name}`), name);
});

test('javascript: large data up to the limit, and refusal beyond it', async (context) => {
  const { zk, root } = await begin(context);
  const path = `${root}/large`;
  const size = FRAME_LIMIT - (8 + 4 + path.length + 4 + (4 + 4 + 4 + 5 + 4 + 6) + 4);
  await zk.create(path, 'd'.repeat(size));
  assert.equal((await zk.get(path)).length, size, 'the longest frame is taken and read back');
  await zk.remove(path, -1);
  await zk.create(`${root}/e`, '', CreateMode.EPHEMERAL);
  const session = zk.session();
  zk.forget();
  await fails('a frame of one byte more', zk.create(path, 'd'.repeat(size + 1)), is('CONNECTION_LOSS'));
  await zk.state(State.SYNC_CONNECTED);
  assert.equal(zk.session(), session, 'the session outlives the refused frame');
  assert.ok(await zk.exists(`${root}/e`), 'so does its ephemeral');
  assert.equal(await zk.exists(path), null);
});

test('javascript: thousands of pipelined requests are answered in strict order', async (context) => {
  const { zk, root } = await begin(context);
  await zk.create(`${root}/x`);
  zk.forget();
  const order = [];
  const all = [];
  const note = (promise) => {
    const index = all.length;
    all.push(promise.then((value) => value, (error) => error.getName()).finally(() => order.push(index)));
  };
  for (let turn = 0; turn < 1000; turn += 1) {
    note(zk.set(`${root}/x`, String(turn)));
    note(zk.get(`${root}/x`));
    note(zk.exists(`${root}/none`));
    note(zk.remove(`${root}/none`, -1));
    note(zk.create(`${root}/s-`, '', CreateMode.PERSISTENT_SEQUENTIAL));
  }
  const results = await Promise.all(all);
  for (let turn = 0; turn < 1000; turn += 1) {
    const [stat, data, missing, error, path] = results.slice(5 * turn, 5 * turn + 5);
    assert.equal(stat.version, turn + 1);
    assert.deepEqual([data, missing, error], [String(turn), null, 'NO_NODE']);
    assert.equal(path, `${root}/s-${String(turn + 1).padStart(10, '0')}`);
  }
  assert.deepEqual(order, order.toSorted((a, b) => a - b), 'the callbacks come in the order of the requests');
  assert.deepEqual(zk.states, [], 'the client found no reply out of turn');
  const ordinary = (frames) => frames.slice(1).map(xid).filter((each) => each >= 0);
  assert.deepEqual(ordinary(zk.proxy.received.whole), ordinary(zk.proxy.sent.whole));
});

test('javascript: one-shot watches', async (context) => {
  const { zk, root } = await begin(context);
  const other = await client(context);
  await zk.create(`${root}/d`);
  await zk.create(`${root}/e`);
  const [data, gone, made, children] = Array.from({ length: 4 }, () => new Watch());
  await zk.get(`${root}/d`, data.callback);
  await zk.exists(`${root}/e`, gone.callback);
  await zk.exists(`${root}/m`, made.callback);
  await zk.children(root, children.callback);
  await other.set(root, 'not a child event');
  await fails('a refused remove', other.remove(`${root}/e`, 9), is('BAD_VERSION'));
  await zk.exists('/');
  assert.deepEqual([data, gone, made, children].flatMap(watched), [], 'nothing changed that is watched');
  await other.set(`${root}/d`, '1');
  await other.remove(`${root}/e`, -1);
  await other.create(`${root}/m`);
  for (const [watch, event] of [
    [data, `NODE_DATA_CHANGED ${root}/d`], [gone, `NODE_DELETED ${root}/e`],
    [made, `NODE_CREATED ${root}/m`], [children, `NODE_CHILDREN_CHANGED ${root}`],
  ]) {
    await watch.next(event);
    assert.deepEqual(watched(watch), [event]);
  }
  const before = zk.proxy.received.whole.filter((frame) => xid(frame) === -1).length;
  await other.set(`${root}/d`, '2');
  await other.create(`${root}/more`);
  await zk.exists('/');
  assert.equal(zk.proxy.received.whole.filter((frame) => xid(frame) === -1).length, before, 'a one-shot fires once');
});

test('javascript: an event comes before the reply of its own change', async (context) => {
  const { zk, root } = await begin(context);
  const order = [];
  const note = (event) => order.push(`${event.getName()} ${event.getPath()}`);
  await zk.create(`${root}/x`);
  await zk.get(`${root}/x`, note);
  await zk.children(root, note);
  await zk.remove(`${root}/x`, -1).then(() => order.push('reply'));
  await zk.exists(`${root}/y`, note);
  await zk.children(root, note);
  await zk.create(`${root}/y`).then(() => order.push('reply'));
  assert.deepEqual(order, [
    `NODE_DELETED ${root}/x`, `NODE_CHILDREN_CHANGED ${root}`, 'reply',
    `NODE_CREATED ${root}/y`, `NODE_CHILDREN_CHANGED ${root}`, 'reply',
  ]);
});

test('javascript: transactions', async (context) => {
  const { zk, root } = await begin(context);
  await zk.create(`${root}/old`, '0');
  await zk.set(`${root}/old`, '1'); // the client takes version 0 for -1
  const done = await zk.commit(zk.zk.transaction()
    .check(`${root}/old`, 1)
    .create(`${root}/new`, Buffer.from('new'))
    .create(`${root}/new/child`)
    .create(`${root}/s-`, CreateMode.EPHEMERAL_SEQUENTIAL)
    .setData(`${root}/old`, Buffer.from('newer'), 1)
    .remove(`${root}/new/child`));
  assert.equal(done.error, null);
  assert.deepEqual(done.results.map(({ type }) => type), [13, 1, 1, 1, 5, 2]);
  assert.equal(done.results[3].path, `${root}/s-0000000002`);
  assert.equal(done.results[4].stat.version, 2);
  assert.equal(await zk.get(`${root}/old`), 'newer');
  assert.equal((await zk.exists(`${root}/s-0000000002`)).ephemeralOwner.toString('hex'), zk.session());
  const zxids = await Promise.all([zk.exists(`${root}/old`), zk.exists(`${root}/new`)]);
  assert.deepEqual(zxids[0].mzxid, zxids[1].czxid, 'the parts share one zxid');

  const failed = await zk.commit(zk.zk.transaction()
    .create(`${root}/gone`)
    .create(`${root}/q-`, CreateMode.PERSISTENT_SEQUENTIAL)
    .setData(`${root}/old`, Buffer.from('x'), 77)
    .remove(`${root}/old`));
  assert.equal(failed.error.getName(), 'BAD_VERSION');
  assert.deepEqual(failed.results.map(({ type, err }) => [type, err]), [[-1, 0], [-1, 0], [-1, -103], [-1, -2]]);
  assert.equal(await zk.exists(`${root}/gone`), null, 'a failed transaction leaves nothing');
  assert.equal(await zk.create(`${root}/q-`, '', CreateMode.PERSISTENT_SEQUENTIAL), `${root}/q-0000000003`,
    'and gives its sequence numbers back');
});

test('javascript: ACLs and authentication', async (context) => {
  const { zk, root } = await begin(context);
  const [user, stranger] = [await client(context), await client(context)];
  user.zk.addAuthInfo('digest', Buffer.from('user:password'));
  stranger.zk.addAuthInfo('digest', Buffer.from('user:wrong'));
  await zk.create(`${root}/d`, 'x', CreateMode.PERSISTENT, digest(Permission.ALL, USER));
  for (const who of [zk, stranger]) {
    await fails('a stranger reads', who.get(`${root}/d`), is('NO_AUTH'));
    await fails('a stranger writes', who.set(`${root}/d`, ''), is('NO_AUTH'));
  }
  assert.equal(await user.get(`${root}/d`), 'x');
  await user.create(`${root}/a`, '', CreateMode.PERSISTENT, ACL.CREATOR_ALL_ACL);
  const shown = ([acls]) => acls.map(({ permission, id }) => `${permission} ${id.scheme}:${id.id}`).sort();
  assert.deepEqual(shown(await user.getACL(`${root}/a`)), [`31 digest:${USER}`], 'auth becomes the digest');
  await fails('auth without any identity', zk.create(`${root}/b`, '', 0, ACL.CREATOR_ALL_ACL), is('INVALID_ACL'));
  const stat = await user.setACL(root, [...ACL.READ_ACL_UNSAFE, ...digest(Permission.ALL, USER)], 0);
  assert.equal(stat.aversion, 1);
  assert.deepEqual(shown(await zk.getACL(root)), ['1 world:anyone', '31 digest:user:x'], 'digests are hidden from others');
  await fails('create below a closed parent', zk.create(`${root}/c`), is('NO_AUTH'));
  await fails('setACL at another version', user.setACL(root, open, 9), is('BAD_VERSION'));
  for (const [id, readable] of [['127.0.0.1', true], ['127.0.0.0/8', true], ['10.0.0.0/8', false]]) {
    const acl = [new ACL(Permission.ALL, new Id('ip', id))];
    const path = await user.create(`${root}/ip-`, 'x', CreateMode.PERSISTENT_SEQUENTIAL, acl);
    if (readable) assert.equal(await zk.get(path), 'x');
    else await fails(`ip ${id}`, zk.get(path), is('NO_AUTH'));
  }
  const unknown = [new ACL(Permission.ALL, new Id('nosuch', 'x'))];
  await fails('an unknown scheme in an ACL', user.create(`${root}/x`, '', 0, unknown), is('INVALID_ACL'));
  stranger.zk.addAuthInfo('digest', Buffer.from('super:secret'));
  assert.equal(await stranger.get(`${root}/d`), 'x', 'super passes every ACL');

  const auths = () => user.proxy.sent.whole.slice(1).filter((frame) => op(frame) === OP.auth).map(xid);
  assert.deepEqual(auths(), [-4]);
  user.forget();
  user.proxy.cut();
  await user.state(State.DISCONNECTED);
  user.forget();
  user.proxy.mend();
  await user.state(State.SYNC_CONNECTED);
  assert.equal(await user.get(`${root}/d`), 'x', 'the credentials are sent again');

  stranger.forget();
  stranger.zk.addAuthInfo('nosuch', Buffer.from('x'));
  await stranger.state(State.AUTH_FAILED);
});

test('javascript: a chroot is taken off paths and events', async (context) => {
  const { zk, root } = await begin(context);
  const below = await client(context, { chroot: root });
  const watch = new Watch();
  assert.equal(await below.exists('/x', watch.callback), null);
  await zk.create(`${root}/x`, 'data');
  await watch.next('creation below the chroot');
  assert.deepEqual(watched(watch), ['NODE_CREATED /x']);
  assert.equal(await below.create('/s-', '', CreateMode.PERSISTENT_SEQUENTIAL), '/s-0000000001');
  assert.deepEqual(await below.children('/'), ['s-0000000001', 'x']);
  assert.equal(await below.get('/x'), 'data');
  const { error, results } = await below.commit(below.zk.transaction().create('/t').remove('/x'));
  assert.equal(error, null);
  assert.equal(results.length, 2);
  assert.deepEqual(await zk.children(root), ['s-0000000001', 't']);
});

test('javascript: racing clients', async (context) => {
  const { zk, root } = await begin(context);
  const clients = await Promise.all(Array.from({ length: 6 }, () => client(context)));
  await zk.create(`${root}/count`, '0');
  await zk.create(`${root}/n`);
  await Promise.all(clients.map(async (each) => {
    for (let done = 0; done < 25;) {
      const [data, stat] = await each.getWithStat(`${root}/count`);
      try {
        await each.set(`${root}/count`, String(Number(data) + 1), stat.version);
        done += 1;
      } catch (error) {
        if (!is('BAD_VERSION')(error)) throw error;
      }
      await each.create(`${root}/n/s`, '', CreateMode.PERSISTENT_SEQUENTIAL);
    }
  }));
  assert.equal(await zk.get(`${root}/count`), '150', 'no update was lost');
  const numbers = (await zk.children(`${root}/n`)).map((name) => Number(name.slice(1)));
  assert.deepEqual(numbers, numbers.map((_, index) => index), 'sequence numbers have no gap and no twin');
  const winners = (await Promise.all(clients.map((each) => each.create(`${root}/one`).then(() => 1, () => 0))));
  assert.equal(winners.reduce((sum, each) => sum + each), 1, 'one of six creates of one path succeeds');
});

test('javascript: close deletes ephemerals at once', async (context) => {
  const { zk, root } = await begin(context);
  const other = await client(context, { timeout: 60000 });
  await other.create(`${root}/stays`);
  for (let i = 0; i < 20; i += 1) await other.create(`${root}/e${i}`, '', CreateMode.EPHEMERAL);
  const watch = new Watch();
  await zk.exists(`${root}/e7`, watch.callback);
  await other.close();
  assert.deepEqual(await zk.children(root), ['stays']);
  await watch.next('the close fires the watch');
  assert.deepEqual(watched(watch), [`NODE_DELETED ${root}/e7`]);
});

test('javascript: a silent session expires', async (context) => {
  const { zk, root } = await begin(context);
  const silent = await client(context, { timeout: 2000 });
  const pinging = await client(context, { timeout: 2000 });
  await silent.create(`${root}/silent`, '', CreateMode.EPHEMERAL);
  await pinging.create(`${root}/pinging`, '', CreateMode.EPHEMERAL);
  const watch = new Watch();
  await zk.exists(`${root}/silent`, watch.callback);
  silent.proxy.deaf();
  await watch.next('expiry deletes the ephemeral');
  silent.proxy.mend();
  await silent.state(State.EXPIRED);
  const { ephemeralOwner } = await zk.exists(`${root}/pinging`);
  assert.equal(ephemeralOwner.toString('hex'), pinging.session(), 'pings keep a session');
  assert.ok(pinging.proxy.sent.whole.slice(1).some((frame) => op(frame) === OP.ping && xid(frame) === -2));
  assert.deepEqual(pinging.states, [State.SYNC_CONNECTED]);
});

test('javascript: a session moves to another client by id and password', async (context) => {
  const { zk, root } = await begin(context);
  const first = await client(context);
  await first.create(`${root}/e`, '', CreateMode.EPHEMERAL);
  const session = first.session();
  const identity = { sessionId: first.zk.getSessionId(), sessionPassword: first.zk.getSessionPassword() };
  first.proxy.cut();
  const second = await client(context, identity);
  assert.equal(second.session(), session);
  await second.close();
  assert.equal(await zk.exists(`${root}/e`), null, 'its close deletes the ephemerals of its first connection');
  const third = await client(context, { ...identity, connect: false });
  third.zk.connect();
  await third.state(State.EXPIRED);
});

test('javascript: watches catch up after a reconnection', async (context) => {
  for (const restart of [false, true]) {
    const zk = await client(context, { timeout: 30000 });
    const other = await client(context, { timeout: 30000 });
    const root = `${context.root}-${restart}`;
    for (const path of ['', '/d', '/e', '/quiet']) await zk.create(root + path);
    await zk.create(`${root}/ephemeral`, '', CreateMode.EPHEMERAL);
    const stat = await zk.exists(`${root}/ephemeral`);
    const watches = Array.from({ length: 7 }, () => new Watch());
    const [data, gone, made, children, quietData, quietChildren, quietMissing] = watches;
    await zk.get(`${root}/d`, data.callback);
    await zk.exists(`${root}/e`, gone.callback);
    await zk.exists(`${root}/m`, made.callback);
    await zk.children(root, children.callback);
    await zk.get(`${root}/quiet`, quietData.callback);
    await zk.children(`${root}/quiet`, quietChildren.callback);
    await zk.exists(`${root}/quiet/missing`, quietMissing.callback);
    const session = zk.session();
    zk.proxy.cut();
    await zk.state(State.DISCONNECTED);
    zk.forget();
    if (restart) {
      other.forget();
      await server.kill();
      await other.state(State.DISCONNECTED);
      await server.start();
      await other.state(State.SYNC_CONNECTED);
    }
    await other.set(`${root}/d`, 'changed while away');
    await other.remove(`${root}/e`, -1);
    await other.create(`${root}/m`);
    zk.proxy.forget();
    zk.proxy.mend();
    await zk.state(State.SYNC_CONNECTED);
    assert.equal(zk.session(), session, 'the session is the same');
    for (const [watch, event] of [
      [data, `NODE_DATA_CHANGED ${root}/d`], [gone, `NODE_DELETED ${root}/e`],
      [made, `NODE_CREATED ${root}/m`], [children, `NODE_CHILDREN_CHANGED ${root}`],
    ]) {
      await watch.next(`after the reconnection: ${event}`);
      assert.deepEqual(watched(watch), [event]);
    }
    await zk.exists('/');
    const setWatches = zk.proxy.sent.whole.filter((frame) => frame.length > 44 && op(frame) === OP.setWatches);
    assert.ok(setWatches.length > 0 && setWatches.every((frame) => xid(frame) >= 0), 'setWatches has an ordinary xid');
    assert.deepEqual([quietData, quietChildren, quietMissing].flatMap(watched), [], 'what did not change fires nothing');
    assert.deepEqual(await zk.exists(`${root}/ephemeral`), stat, 'the ephemeral is as it was');
    await other.set(`${root}/quiet`, 'x');
    await other.create(`${root}/quiet/missing`);
    for (const [watch, event] of [
      [quietData, `NODE_DATA_CHANGED ${root}/quiet`], [quietChildren, `NODE_CHILDREN_CHANGED ${root}/quiet`],
      [quietMissing, `NODE_CREATED ${root}/quiet/missing`],
    ]) {
      await watch.next(`armed again: ${event}`);
      assert.deepEqual(watched(watch), [event]);
    }
  }
});

test('javascript: sessions and acknowledged writes survive a kill in full flight', async (context) => {
  const { zk, root } = await begin(context);
  const clients = await Promise.all(Array.from({ length: 4 }, () => client(context, { timeout: 30000 })));
  const sessions = clients.map((each) => each.session());
  await zk.create(`${root}/n`);
  const acknowledged = [];
  let tell;
  const killed = new Promise((resolve) => { tell = resolve; });
  const writers = clients.map(async (each, index) => {
    await each.create(`${root}/e${index}`, '', CreateMode.EPHEMERAL);
    for (;;) {
      try {
        // A request made after the kill waits in the client for the next connection.
        const made = await Promise.race([each.create(`${root}/n/s`, 'x', CreateMode.PERSISTENT_SEQUENTIAL), killed]);
        if (made === undefined) return;
        acknowledged.push(made);
      } catch (error) {
        if (is('CONNECTION_LOSS')(error)) return;
        throw error;
      }
    }
  });
  await eventually('the writers have written 200 znodes', () => acknowledged.length >= 200);
  for (const each of [zk, ...clients]) each.forget();
  await server.kill();
  tell();
  await within(DEADLINE, 'the writers notice', Promise.all(writers));
  await server.start();
  for (const [index, each] of clients.entries()) {
    await each.state(State.SYNC_CONNECTED);
    assert.equal(each.session(), sessions[index], 'the session is the same');
    assert.equal((await each.exists(`${root}/e${index}`)).ephemeralOwner.toString('hex'), sessions[index]);
  }
  await zk.state(State.SYNC_CONNECTED);
  const present = new Set((await zk.children(`${root}/n`)).map((name) => `${root}/n/${name}`));
  assert.deepEqual(acknowledged.filter((path) => !present.has(path)), [], 'an acknowledged create was lost');
  assert.ok(present.size - acknowledged.length <= clients.length, 'at most one unanswered create each');
  const next = await zk.create(`${root}/n/s`, '', CreateMode.PERSISTENT_SEQUENTIAL);
  assert.ok([...present].every((path) => path < next), 'sequence numbers go on');
});

assert.equal(Event.NODE_CREATED, 1);
