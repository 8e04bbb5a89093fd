// The PHP class on the oldest PHP that it promises to run on: everything that needs no network.
import assert from 'node:assert/strict';
import { createHmac } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';

import { getPHPLoaderModule } from '@php-wasm/node-7-4';
import { PHP, loadPHPRuntime } from '@php-wasm/universal';

const php = new PHP(await loadPHPRuntime(await getPHPLoaderModule()));
php.mkdir('/clients');
php.writeFile('/clients/Tocsin.php', readFileSync(new URL('../../clients/php/src/Tocsin.php', import.meta.url), 'utf8'));

/** The JSON that `code` makes after the class was loaded; any warning of PHP is an exception there. */
async function run(code) {
  php.writeFile('/test.php', `<?php
    error_reporting(E_ALL);
    set_error_handler(static function (int $level, string $text): bool {
      if (!(error_reporting() & $level)) {
        return true;
      }
      throw new ErrorException($text);
    });
    require '/clients/Tocsin.php';
    try {
      $result = (static function () { ${code} })();
    } catch (TocsinException $e) {
      $result = ['error' => $e->getError(), 'outcome' => $e->getOutcome(), 'message' => $e->getMessage()];
    } catch (InvalidArgumentException $e) {
      $result = ['invalid' => $e->getMessage()];
    }
    echo json_encode($result);`);
  const { text, errors } = await php.run({ scriptPath: '/test.php' });
  assert.equal(errors, '');
  return JSON.parse(text);
}

test('this is PHP 7.4, and it takes the file', async () => {
  assert.match(await run('return PHP_VERSION;'), /^7\.4\./);
});

test('an ID is the HMAC of user and version', async () => {
  const secret = 'the secret of the site';
  const expected = createHmac('sha256', secret).update('77\x002').digest('hex');
  assert.equal(await run(`return Tocsin::id("  ${secret}\\n", '77', 2);`), expected);
  assert.match((await run("return Tocsin::id('short', '77');")).invalid, /at least 16 bytes/);
});

test('wrong options are explained', async () => {
  for (const [options, words] of [
    ["['kee' => 'x']", /no option kee/],
    ["['key' => '']", /the option key is empty/i],
    ["['key' => 'a key', 'timeout' => 1]", /contains a space/],
    ["['key' => 'k', 'key_file' => '/k']", /either the option key or the option key_file/],
    ["['retries' => -1]", /retries must be a whole number/],
  ]) {
    assert.match((await run(`new Tocsin('http://127.0.0.1:9090', ${options});`)).invalid, words);
  }
  assert.match((await run("new Tocsin('ftp://127.0.0.1');")).invalid, /The URL of new Tocsin\(\) is wrong/);
});

test('a key file that cannot be read or holds no key is an exception of the call', async () => {
  const call = (file) => run(`return (new Tocsin('http://127.0.0.1:9090', ['key_file' => '${file}', 'retries' => 0]))->broadcast('t', 1);`);
  const missing = await call('/nowhere.key');
  assert.deepEqual([missing.error, missing.outcome], ['denied', 'refused']);
  assert.match(missing.message, /PHP cannot read the key file \/nowhere\.key/);
  php.writeFile('/empty.key', '\n');
  assert.match((await call('/empty.key')).message, /The first line of \/empty\.key is not a key/);
});

test('a message that is no JSON, and a batch that is too large, are refused here', async () => {
  const broadcast = (message) => run(`return (new Tocsin('http://127.0.0.1:9090', ['key' => 'k']))->broadcast('t', ${message});`);
  assert.match((await broadcast('"\\xff"')).message, /cannot write the message as JSON/);
  const batch = await run("return (new Tocsin('http://127.0.0.1:9090'))->batch(array_fill(0, 1001, []));");
  assert.match(batch.invalid, /at most 1000 messages/);
});
