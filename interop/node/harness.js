'use strict';
// What the tests of both clients share: tests with deadlines, the server's switch, and a proxy of each client's
// own that records frames and can be cut or go deaf.

const assert = require('node:assert/strict');
const fs = require('node:fs');
const net = require('node:net');
const readline = require('node:readline');

const DEADLINE = 20000; // ms, for one condition
const TEST_DEADLINE = 90000; // ms, for one test
const port = Number(process.env.INTEROP_PORT);
const wanted = new RegExp(process.env.INTEROP_TESTS || '');
const answers = readline.createInterface({ input: process.stdin })[Symbol.asyncIterator]();

// The script `run` kills (SIGKILL) and starts the server, the latter on the same port and directory.
const server = { starting: false, isDown: false };
async function command(word) {
  fs.writeSync(3, word + '\n');
  assert.equal((await answers.next()).value, 'done', `the script's answer to ${word}`);
}
server.kill = async () => {
  // A Java server that is just starting never answers some of the connections it accepts, and their clients
  // lose their sessions waiting; so clients of one connect only when it serves.
  server.starting = process.env.INTEROP_KIND === 'java';
  server.isDown = true;
  await command('kill');
};
server.start = async () => {
  await command('start');
  server.isDown = false;
  server.starting = false;
};

const tests = [];
/** Declares a test; its function gets a context with `root`, a path of its own, and `after(cleanup)`. */
function test(name, body) {
  tests.push({ name, body });
}

async function runAll() {
  let failed = 0;
  const chosen = tests.filter(({ name }) => wanted.test(name));
  for (const [index, { name, body }] of chosen.entries()) {
    const cleanups = [];
    const context = { root: `/node-${index}`, after: (cleanup) => cleanups.push(cleanup) };
    const start = Date.now();
    try {
      if (server.isDown) await server.start(); // a test failed before it started the server again
      await within(TEST_DEADLINE, 'the test ends', body(context));
      if (wanted.source !== '(?:)') console.log(`ok    ${name} (${Date.now() - start} ms)`);
    } catch (error) {
      failed += 1;
      console.log(`FAIL  ${name}\n${error.stack || error}`);
    }
    for (const cleanup of cleanups.reverse()) await cleanup();
  }
  console.log(`${chosen.length - failed} of ${chosen.length} tests passed`);
  process.exit(failed || chosen.length === 0 ? 1 : 0);
}

function within(milliseconds, behaviour, promise) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`not within ${milliseconds} ms: ${behaviour}`)), milliseconds);
  });
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}

/** Waits until the condition (which may be asynchronous) gives a true value, and returns that. */
async function eventually(behaviour, condition) {
  const end = Date.now() + DEADLINE;
  for (;;) {
    const value = await condition();
    if (value) return value;
    if (Date.now() > end) throw new Error(`not within ${DEADLINE} ms: ${behaviour}`);
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}

/** The promise rejects, with an error for which `matches` is true. */
async function fails(behaviour, promise, matches) {
  let error;
  try {
    await within(DEADLINE, behaviour, promise);
  } catch (caught) {
    error = caught;
  }
  assert.ok(error, `${behaviour}: it should fail`);
  assert.ok(matches(error), `${behaviour}: failed otherwise: ${error}`);
}

/** One watch: `next` waits for its event, `seen` holds all of its events. */
class Watch {
  constructor() {
    this.seen = [];
    this.callback = (...event) => {
      this.seen.push(event);
      if (this.wake) this.wake();
    };
  }

  async next(behaviour) {
    if (this.seen.length === 0) {
      await within(DEADLINE, behaviour, new Promise((resolve) => {
        this.wake = resolve;
      }));
    }
    return this.seen[0];
  }
}

/** Frames of one direction; the bytes after the last whole frame wait for the rest. */
class Frames {
  constructor() {
    this.whole = [];
    this.rest = Buffer.alloc(0);
  }

  add(bytes) {
    this.rest = Buffer.concat([this.rest, bytes]);
    while (this.rest.length >= 4 && this.rest.length >= 4 + this.rest.readInt32BE(0)) {
      const end = 4 + this.rest.readInt32BE(0);
      this.whole.push(this.rest.subarray(4, end));
      this.rest = this.rest.subarray(end);
    }
  }
}

class Proxy {
  static async open(context) {
    const proxy = new Proxy();
    context.after(() => proxy.close());
    await new Promise((resolve) => proxy.listener.listen(0, '127.0.0.1', resolve));
    proxy.port = proxy.listener.address().port;
    return proxy;
  }

  constructor() {
    this.isCut = false;
    this.isDeaf = false;
    this.pairs = new Set();
    this.forget();
    this.listener = net.createServer((client) => this.accept(client));
  }

  /** Starts the record anew; `sent` and `received` are of all connections since. */
  forget() {
    this.sent = new Frames();
    this.received = new Frames();
  }

  accept(client) {
    if (this.isCut || server.starting) {
      client.destroy();
      return;
    }
    const upstream = net.connect(port, '127.0.0.1');
    const pair = [client, upstream];
    this.pairs.add(pair);
    client.setNoDelay();
    upstream.setNoDelay();
    const end = () => {
      this.pairs.delete(pair);
      client.destroy();
      upstream.destroy();
    };
    for (const socket of pair) socket.on('error', end).on('close', end);
    client.on('data', (bytes) => {
      this.sent.add(bytes);
      upstream.write(bytes);
    });
    upstream.on('data', (bytes) => {
      this.received.add(bytes);
      client.write(bytes);
    });
    if (this.isDeaf) for (const socket of pair) socket.pause();
  }

  /** Closes the connections and lets no other open. */
  cut() {
    this.isCut = true;
    for (const [client] of this.pairs) client.destroy();
  }

  /** Keeps the connections but lets nothing pass. */
  deaf() {
    this.isDeaf = true;
    for (const pair of this.pairs) for (const socket of pair) socket.pause();
  }

  mend() {
    this.isCut = this.isDeaf = false;
    for (const pair of this.pairs) for (const socket of pair) socket.resume();
  }

  close() {
    this.cut();
    this.listener.close();
  }
}

module.exports = { DEADLINE, Proxy, Watch, eventually, fails, port, runAll, server, test, within };
