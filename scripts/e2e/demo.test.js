// scripts/demo, the first thing that anyone runs.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import net from 'node:net';
import path from 'node:path';
import { after, test } from 'node:test';

import * as e2e from './harness.js';

const demo = path.join(e2e.top, 'scripts/demo');
const LOOPBACK = ['--gate', '127.0.0.1:0', '--server', '127.0.0.1:0'];

after(e2e.endAll);

async function takenPort() {
  const taken = net.createServer();
  await new Promise((resolve) => taken.listen(0, '127.0.0.1', resolve));
  e2e.atEnd(() => taken.close());
  return taken.address().port;
}

/** The process ids of the running demo's programs, by name. */
function programsOf({ pid }) {
  const children = readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').trim().split(' ');
  return Object.fromEntries(children.map((child) => [readFileSync(`/proc/${child}/comm`, 'utf8').trim(), Number(child)]));
}

const isGone = (pid) => {
  try { process.kill(pid, 0); return false; } catch { return true; }
};

test('--check sends a notification and a broadcast through and ends well', async () => {
  const { code, stdout, stderr } = await e2e.run(demo, ['--check']);
  assert.equal(code, 0, stdout + stderr);
  assert.match(stdout, /"The bell rings"/);
  assert.match(stdout, /"It rings for everyone"/);
});

for (const [name, option, other] of [['server', '--server', ['--gate', '127.0.0.1:0']], ['gate', '--gate', ['--server', '127.0.0.1:0']]]) {
  test(`a taken port of the ${name} is said so, and nothing is left running`, async () => {
    const port = await takenPort();
    const running = new e2e.Program('demo', demo, [option, `127.0.0.1:${port}`, ...other]);
    const code = await e2e.within(running.ended, () => `the demo ends\n${running.out}`);
    assert.equal(code, 69, running.out);
    assert.match(running.out, new RegExp(`127\\.0\\.0\\.1:${port}: another program`));
    assert.match(running.out, new RegExp(`demo: ${name} did not start`));
  });
}

test('the line that it shows sends, with the key', async () => {
  const running = new e2e.Program('demo', demo, LOOPBACK);
  const [, line] = await running.says(/^  Send +(.*)$/m);
  await running.says(/^  Key +[0-9a-f]{64}$/m);
  const { code, stdout, stderr } = await e2e.run('sh', ['-c', line]);
  assert.equal(code, 0, stderr);
  assert.match(stdout, /"clients":0/);
  assert.equal(await running.stop(), 0);
});

for (const signal of ['SIGINT', 'SIGTERM']) {
  test(`${signal} ends both programs, and the demo well`, async () => {
    const running = new e2e.Program('demo', demo, LOOPBACK);
    await running.says(/https:\/\/localhost:\d+\//);
    const programs = programsOf(running.child);
    assert.deepEqual(Object.keys(programs).sort(), ['gate', 'server']);
    assert.equal(await running.stop(signal), 0, running.out);
    assert.ok(isGone(programs.gate) && isGone(programs.server));
  });
}

for (const name of ['gate', 'server']) {
  test(`when the ${name} dies, the demo says so and ends the other`, async () => {
    const running = new e2e.Program('demo', demo, LOOPBACK);
    await running.says(/https:\/\/localhost:\d+\//);
    const programs = programsOf(running.child);
    process.kill(programs[name], 'SIGKILL');
    const code = await e2e.within(running.ended, () => `the demo ends\n${running.out}`);
    assert.equal(code, 137, running.out);
    assert.match(running.out, new RegExp(`demo: ${name} ended by itself`));
    assert.ok(isGone(programs.gate) && isGone(programs.server));
  });
}

test('an unknown option is refused with the usage', async () => {
  const { code, stderr } = await e2e.run(demo, ['--nonsense']);
  assert.equal(code, 64);
  assert.match(stderr, /Usage/);
});
