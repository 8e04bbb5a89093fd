// The Grafana dashboard asks for nothing that the programs do not tell, and nothing is told without
// being shown and explained.
import assert from 'node:assert/strict';
import { once } from 'node:events';
import net from 'node:net';
import path from 'node:path';
import { after, before, test } from 'node:test';
import tls from 'node:tls';

import * as e2e from './harness.js';

const dashboard = JSON.parse(e2e.read(path.join(e2e.top, 'docs/grafana.json')));
/** Names of samples, by the prefix of those that tell them. */
const told = { gate: new Set(), server: new Set() };
/** What each kind of metric adds to its name. */
const SUFFIXES = { counter: ['_total'], gauge: [''], histogram: ['_bucket', '_sum', '_count'] };

before(async () => {
  // With a log on disk, or there is nothing to tell of it.
  const server = await e2e.startServer(['--data', path.join(e2e.temporary(), 'log')]);
  const gate = await e2e.startGate(server, ['--admin', '127.0.0.1:0', '--max-handshakes-per-address', '1']);
  await makeNews(gate.port);
  const [, admin] = await gate.says(/^listening admin (\S+)$/m);
  for (const [program, url] of [['gate', `http://${admin}`], ['server', server.admin]]) {
    const text = await (await fetch(`${url}/metrics`)).text();
    for (const [, name, type] of text.matchAll(/^# TYPE (\S+) (\S+)$/gm)) {
      for (const suffix of SUFFIXES[type]) told[program].add(name + suffix);
    }
    assert.ok(told[program].size > 10, text);
  }
});
after(e2e.endAll);

/** What the gate tells only once it has happened: a handshake, and a connection that is refused. */
async function makeNews(port) {
  const visitor = tls.connect({ port, host: '127.0.0.1', rejectUnauthorized: false });
  e2e.atEnd(() => visitor.destroy());
  await e2e.within(once(visitor, 'secureConnect'), () => 'a handshake');
  const silent = [1, 2].map(() => net.connect(port, '127.0.0.1'));
  e2e.atEnd(() => silent.forEach((socket) => socket.destroy()));
  // Closed in one way or the other.
  const refused = silent.map((socket) => new Promise((resolve) => socket.on('error', () => {}).on('close', resolve).resume()));
  await e2e.within(Promise.race(refused), () => 'a refusal');
}

/** The metrics of samples, whose histograms are of several names. */
const metrics = (samples) => [...new Set([...samples].map((name) => name.replace(/_(bucket|sum|count)$/, '')))].sort();

/** The names of metrics in an expression of PromQL. */
const names = (expression) => expression
  .replace(/"[^"]*"/g, '')
  .replace(/\b(by|without|on|ignoring)\s*\([^)]*\)/g, '')
  .replace(/\{[^}]*\}|\[[^\]]*\]/g, '')
  .match(/\b[a-z][a-z0-9_]*_[a-z0-9_]+\b(?!\s*\()/g) ?? [];

test('every metric of the dashboard is told by the program of its row, and every metric is shown', () => {
  const shown = { gate: new Set(), server: new Set() };
  let row;
  let seen = 0;
  for (const panel of dashboard.panels) {
    if (panel.type === 'row') row = panel.title.toLowerCase();
    for (const { expr } of panel.targets ?? []) {
      assert.ok(names(expr).length > 0, `${panel.title}: no metric in ${expr}`);
      for (const name of names(expr)) {
        assert.ok(told[row].has(name), `${panel.title}: no ${name} at the ${row}`);
        shown[row].add(name);
      }
      assert.ok(expr.includes(`instance=~"$${row}"`), `${panel.title}: not of the ${row}s chosen: ${expr}`);
      seen += 1;
    }
  }
  assert.ok(seen > 30);
  for (const program of Object.keys(told)) assert.deepEqual(metrics(shown[program]), metrics(told[program]));
  for (const { type, definition } of dashboard.templating.list.filter((variable) => variable.type === 'query')) {
    const [, name] = definition.match(/^label_values\((\w+), instance\)$/);
    assert.ok(told.gate.has(name) || told.server.has(name), `${type}: ${name}`);
  }
});

test('Grafana can read it: a data source to choose, ids of their own, panels that do not overlap', () => {
  assert.ok(dashboard.schemaVersion >= 38, 'that of Grafana 10');
  assert.equal(dashboard.templating.list.find(({ name }) => name === 'datasource').type, 'datasource');
  const ids = dashboard.panels.map(({ id }) => id);
  assert.equal(new Set(ids).size, ids.length);
  const taken = new Set();
  for (const { type, title, datasource, targets = [], fieldConfig, gridPos } of dashboard.panels) {
    for (let x = gridPos.x; x < gridPos.x + gridPos.w; x += 1) {
      for (let y = gridPos.y; y < gridPos.y + gridPos.h; y += 1) {
        assert.ok(x < 24 && !taken.has(`${x} ${y}`), `${title} overlaps`);
        taken.add(`${x} ${y}`);
      }
    }
    if (type === 'row') continue;
    for (const of of [datasource, ...targets.map((target) => target.datasource)]) {
      assert.equal(of.uid, '${datasource}', title);
    }
    assert.ok(fieldConfig.defaults.unit, `${title} has a unit`);
  }
});

test('every metric is in docs/operations.md, and none that is not told', () => {
  const watching = e2e.read(path.join(e2e.top, 'docs/operations.md')).split(/^## /m).find((part) => part.startsWith('Watching'));
  const explained = new Set([...watching.matchAll(/`((?:gate|server|process)_[a-z0-9_]+)/g)].map(([, name]) => name));
  assert.deepEqual([...explained].sort(), metrics([...told.gate, ...told.server]));
});
