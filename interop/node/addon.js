'use strict';
// The package zookeeper: ZooKeeper's C client, single-threaded, in Node's event loop.

const assert = require('node:assert/strict');
const ZooKeeper = require('zookeeper');
const { Proxy, Watch, eventually, fails, port, server, test, within, DEADLINE } = require('./harness.js');

const {
  ZOO_PERSISTENT, ZOO_EPHEMERAL, ZOO_PERSISTENT_SEQUENTIAL, ZOO_EPHEMERAL_SEQUENTIAL, ZOO_CONTAINER,
  ZOO_PERSISTENT_WITH_TTL, ZOO_PERSISTENT_SEQUENTIAL_WITH_TTL, ZOO_CREATED_EVENT, ZOO_DELETED_EVENT,
  ZOO_CHANGED_EVENT, ZOO_CHILD_EVENT, ZOO_EXPIRED_SESSION_STATE,
} = ZooKeeper.constants;
const code = (wanted) => (error) => error.message.startsWith(`${wanted} `);
const xid = (frame) => frame.readInt32BE(0);
const SET_WATCHES = 101;

/** A connected client, behind a proxy of its own or not; closed at the end of the test. */
async function client(context, { timeout = 15000, proxied = false, ...options } = {}) {
  const proxy = proxied ? await Proxy.open(context) : { port };
  const zk = new ZooKeeper({ connect: `127.0.0.1:${proxy.port}`, timeout, debug_level: 0, ...options });
  zk.proxy = proxy;
  zk.events = [];
  for (const name of ['connect', 'connecting', 'close']) zk.on(name, () => zk.events.push(name));
  zk.until = (name) => eventually(`the client emits ${name}`, () => zk.events.includes(name));
  zk.create_ = (path, data = '', flags = ZOO_PERSISTENT, ttl = undefined) => (
    within(DEADLINE, `create ${path}`, zk.create(path, data, flags, ttl)));
  zk.text = async (path) => String((await within(DEADLINE, `get ${path}`, zk.get(path, false)))[1]);
  zk.names = async (path) => (await within(DEADLINE, `children of ${path}`, zk.get_children(path, false))).sort();
  zk.init({});
  context.after(() => zk.close());
  await zk.until('connect');
  return zk;
}

async function begin(context, options) {
  const zk = await client(context, options);
  await zk.create_(context.root);
  return { zk, root: context.root };
}

// The C client tells its watches of the session's states too, as type -1.
const happened = (watch) => watch.seen.filter(([type]) => type > 0).map(([type, , path]) => `${type} ${path}`);

test('addon: the handshake carries the readOnly byte both ways', async (context) => {
  const { zk } = await begin(context, { proxied: true });
  assert.equal(zk.proxy.sent.whole[0].length, 45);
  assert.equal(zk.proxy.received.whole[0].length, 37);
  assert.equal(zk.proxy.received.whole[0][36], 0, 'the server is not read-only');
  assert.equal(zk.timeout, 15000);
});

test('addon: create modes', async (context) => {
  const { zk, root } = await begin(context);
  assert.equal(await zk.create_(`${root}/p`, 'data'), `${root}/p`);
  const [stat, data] = await zk.get(`${root}/p`, false);
  assert.equal(String(data), 'data');
  assert.deepEqual([stat.version, stat.cversion, stat.aversion, stat.dataLength, stat.numChildren], [0, 0, 0, 4, 0]);
  await zk.create_(`${root}/e`, '', ZOO_EPHEMERAL);
  assert.equal((await zk.exists(`${root}/e`, false)).createdInThisSession, true);
  await fails('a child of an ephemeral', zk.create_(`${root}/e/child`), code(-108));
  assert.equal(await zk.create_(`${root}/s-`, '', ZOO_PERSISTENT_SEQUENTIAL), `${root}/s-0000000002`);
  assert.equal(await zk.create_(`${root}/s-`, '', ZOO_EPHEMERAL_SEQUENTIAL), `${root}/s-0000000003`);
  assert.equal(await zk.create_(`${root}/t-`, '', ZOO_PERSISTENT_SEQUENTIAL_WITH_TTL, 3600000), `${root}/t-0000000004`);
});

test('addon: containers and TTL znodes are deleted by the server', async (context) => {
  const { zk, root } = await begin(context);
  assert.equal(await zk.create_(`${root}/container`, '', ZOO_CONTAINER), `${root}/container`);
  await zk.create_(`${root}/never-used`, '', ZOO_CONTAINER);
  await zk.create_(`${root}/container/child`);
  await zk.create_(`${root}/ttl`, '', ZOO_PERSISTENT_WITH_TTL, 500);
  await zk.create_(`${root}/long`, '', ZOO_PERSISTENT_WITH_TTL, 3600000);
  await zk.delete_(`${root}/container/child`, -1);
  await eventually('the emptied container and the old TTL znode go',
    async () => String(await zk.names(root)) === 'long,never-used');
});

test('addon: versions and errors', async (context) => {
  const { zk, root } = await begin(context);
  await zk.create_(`${root}/x`, '0');
  await zk.create_(`${root}/x/child`);
  assert.equal((await zk.set(`${root}/x`, '1', 0)).version, 1);
  assert.equal(await zk.text(`${root}/x`), '1');
  await fails('set at an old version', zk.set(`${root}/x`, '2', 0), code(-103));
  await fails('delete of a parent', zk.delete_(`${root}/x`, -1), code(-111));
  await fails('delete of nothing', zk.delete_(`${root}/none`, -1), code(-101));
  await fails('create of what is there', zk.create_(`${root}/x`), code(-110));
  await fails('create below nothing', zk.create_(`${root}/none/x`), code(-101));
  await fails('create with an emoji', zk.create_(`${root}/\u{1f600}`), code(-8));
  await fails('get of nothing', zk.get(`${root}/none`, false), code(-101));
  await fails('exists of nothing', zk.exists(`${root}/none`, false), code(-101));
  await fails('reconfig', zk.reconfig('server.2=127.0.0.1:1:2;3', null, null, -1), code(-123));
  assert.deepEqual(await zk.names(`${root}/x`), ['child']);
  const [names, stat] = await zk.get_children2(`${root}/x`, false);
  assert.deepEqual([names, stat.numChildren, stat.cversion, stat.version], [['child'], 1, 1, 1]);
  await zk.sync(root);
  const [config] = await zk.getconfig(false);
  assert.equal(config.aversion, -1, 'the Stat of /zookeeper/config');
});

test('addon: ACLs and authentication', async (context) => {
  const { zk, root } = await begin(context);
  const [user, stranger] = [await client(context), await client(context)];
  const auth = (who, scheme, text) => within(DEADLINE, `auth ${text}`, new Promise((resolve) => {
    who.add_auth(scheme, text, resolve);
    who.exists('/', false); // the addon sends an auth packet only with the next request
  }));
  assert.equal(await auth(user, 'digest', 'user:password'), 0);
  assert.equal(await auth(stranger, 'digest', 'user:wrong'), 0);
  await zk.create_(`${root}/d`, 'x');
  await user.set_acl(`${root}/d`, 0, [{ perms: 31, scheme: 'auth', auth: '' }]);
  for (const who of [zk, stranger]) await fails('a stranger reads', who.get(`${root}/d`, false), code(-102));
  assert.equal(await user.text(`${root}/d`), 'x');
  const acl = await user.get_acl(`${root}/d`);
  assert.match(JSON.stringify(acl), /user:tpUq\/4Pn5A64fVZyQ0gOJ8ZWqkY=/, 'auth becomes the digest');
  await fails('an invalid ACL', zk.set_acl(root, -1, [{ perms: 31, scheme: 'nosuch', auth: 'x' }]), code(-114));
  await fails('setACL at another version', zk.set_acl(root, 5, [{ perms: 31, scheme: 'world', auth: 'anyone' }]), code(-103));
});

test('addon: watches fire once, before the reply of their own change', async (context) => {
  const { zk, root } = await begin(context, { proxied: true });
  await zk.create_(`${root}/d`);
  const [data, made, children] = Array.from({ length: 3 }, () => new Watch());
  await zk.w_get(`${root}/d`, data.callback);
  await fails('exists of nothing', zk.w_exists(`${root}/m`, made.callback), code(-101));
  await zk.w_get_children(root, children.callback);
  await zk.set(`${root}/d`, '1', -1);
  await zk.create_(`${root}/m`);
  const order = zk.proxy.received.whole.slice(-5).map((frame) => (xid(frame) === -1 ? frame.readInt32BE(16) : 'reply'));
  assert.deepEqual(order, [ZOO_CHANGED_EVENT, 'reply', ZOO_CREATED_EVENT, ZOO_CHILD_EVENT, 'reply']);
  await zk.set(`${root}/d`, '2', -1);
  await zk.delete_(`${root}/m`, -1);
  await children.next('the child watch');
  assert.deepEqual([happened(data), happened(made), happened(children)], [
    [`${ZOO_CHANGED_EVENT} ${root}/d`], [`${ZOO_CREATED_EVENT} ${root}/m`], [`${ZOO_CHILD_EVENT} ${root}`],
  ]);
});

test('addon: thousands of pipelined requests are answered in order', async (context) => {
  const { zk, root } = await begin(context, { proxied: true });
  const other = await client(context);
  const all = [];
  for (let turn = 0; turn < 1000; turn += 1) {
    all.push(zk.create_(`${root}/s-`, String(turn), ZOO_PERSISTENT_SEQUENTIAL));
    all.push(zk.text(`${root}/s-${String(turn).padStart(10, '0')}`));
    other.exists(`${root}`, false);
  }
  const results = await Promise.all(all);
  for (let turn = 0; turn < 1000; turn += 1) {
    const path = `${root}/s-${String(turn).padStart(10, '0')}`;
    assert.deepEqual(results.slice(2 * turn, 2 * turn + 2), [path, String(turn)]);
  }
  const ordinary = (frames) => frames.slice(1).map(xid).filter((each) => each >= 0);
  assert.deepEqual(ordinary(zk.proxy.received.whole), ordinary(zk.proxy.sent.whole));
  assert.deepEqual(zk.events, ['connect'], 'the C client drops a connection whose replies are out of order');
});

test('addon: close deletes ephemerals, a silent session expires', async (context) => {
  const { zk, root } = await begin(context);
  const closing = await client(context, { timeout: 60000 });
  const silent = await client(context, { timeout: 2000, proxied: true });
  await closing.create_(`${root}/closing`, '', ZOO_EPHEMERAL);
  await silent.create_(`${root}/silent`, '', ZOO_EPHEMERAL);
  const [closed, expired] = [new Watch(), new Watch()];
  await zk.w_exists(`${root}/closing`, closed.callback);
  await zk.w_exists(`${root}/silent`, expired.callback);
  closing.close();
  await closed.next('the close fires the watch');
  assert.deepEqual(happened(closed), [`${ZOO_DELETED_EVENT} ${root}/closing`]);
  let closeCode;
  silent.on('close', (_, reason) => { closeCode = reason; });
  silent.proxy.deaf();
  await expired.next('the expiry fires the watch');
  assert.deepEqual(await zk.names(root), []);
  silent.proxy.mend();
  await silent.until('close');
  assert.equal(closeCode, ZOO_EXPIRED_SESSION_STATE, 'the client is told that its session expired');
});

// The C client, as the addon drives it, waits a third of the session timeout before it tries again.
test('addon: session, ephemerals and watches survive a kill', async (context) => {
  const zk = await client(context, { timeout: 12000, proxied: true });
  const other = await client(context, { timeout: 12000, proxied: true });
  const { root } = context;
  for (const path of ['', '/d', '/e', '/quiet']) await zk.create_(root + path);
  await zk.create_(`${root}/ephemeral`, '', ZOO_EPHEMERAL);
  const [data, gone, made, children, quiet] = Array.from({ length: 5 }, () => new Watch());
  await zk.w_get(`${root}/d`, data.callback);
  await zk.w_exists(`${root}/e`, gone.callback);
  await fails('exists of nothing', zk.w_exists(`${root}/m`, made.callback), code(-101));
  await zk.w_get_children(root, children.callback);
  await zk.w_get(`${root}/quiet`, quiet.callback);
  const session = zk.client_id;
  zk.proxy.cut();
  await zk.until('connecting');
  for (const each of [zk, other]) each.events = [];
  await server.kill();
  await other.until('connecting');
  await server.start();
  await other.until('connect');
  await other.set(`${root}/d`, 'x', -1);
  await other.delete_(`${root}/e`, -1);
  await other.create_(`${root}/m`);
  zk.proxy.forget();
  zk.proxy.mend();
  await zk.until('connect');
  assert.equal(zk.client_id, session, 'the session is the same');
  for (const [watch, event] of [
    [data, `${ZOO_CHANGED_EVENT} ${root}/d`], [gone, `${ZOO_DELETED_EVENT} ${root}/e`],
    [made, `${ZOO_CREATED_EVENT} ${root}/m`], [children, `${ZOO_CHILD_EVENT} ${root}`],
  ]) {
    await eventually(`after the reconnection: ${event}`, () => happened(watch).length > 0);
    assert.deepEqual(happened(watch), [event]);
  }
  assert.equal((await zk.exists(`${root}/ephemeral`, false)).createdInThisSession, true);
  const setWatches = zk.proxy.sent.whole.slice(1).filter((frame) => frame.readInt32BE(4) === SET_WATCHES);
  assert.deepEqual(setWatches.map(xid), [-8], 'setWatches has the xid -8');
  assert.ok(zk.proxy.received.whole.slice(1).some((frame) => xid(frame) === -8), 'which is echoed');
  assert.deepEqual(happened(quiet), [], 'what did not change fires nothing');
  await other.set(`${root}/quiet`, 'x', -1);
  await eventually('a watch that was armed again fires', () => happened(quiet).includes(`${ZOO_CHANGED_EVENT} ${root}/quiet`));
});

test('addon: a session moves to another client by id and password', async (context) => {
  const { zk, root } = await begin(context);
  const first = await client(context, { proxied: true });
  await first.create_(`${root}/e`, '', ZOO_EPHEMERAL);
  first.proxy.cut();
  const second = await client(context, { client_id: first.client_id, client_password: first.client_password });
  assert.equal(second.client_id, first.client_id);
  assert.equal((await second.exists(`${root}/e`, false)).createdInThisSession, true);
  second.close();
  await eventually('its close deletes the ephemerals of its first connection', async () => (await zk.names(root)).length === 0);
});
