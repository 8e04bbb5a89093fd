<?php

declare(strict_types=1);

/**
 * Sends notifications through a Tocsin server, and reads a person's inbox for a page that PHP
 * renders. This file is the whole client: it needs the extensions hash and json (and openssl for
 * https), has no dependencies, and declares no namespace.
 *
 * An object holds no connection: keep one, or make a new one for every message.
 */
final class Tocsin
{
    /** The longest answer, in bytes. An inbox holds 1 MiB by default; all other answers are far shorter. */
    private const REPLY_MAX = 16777216;
    /** The most messages that the server accepts in one request. */
    private const BATCH_MAX = 1000;
    /** A web server that is not Tocsin answers so at a wrong URL: nothing was accepted. */
    private const ELSEWHERE = [301, 302, 303, 307, 308, 400, 404, 405];
    /** The most that is read of a key file, in bytes; a key has at most 512. */
    private const KEY_FILE_MAX = 4096;
    /** The longest wait before the second attempt, in seconds. It doubles with each further attempt. */
    private const WAIT_FIRST = 0.2;
    private const JSON = JSON_UNESCAPED_SLASHES | JSON_UNESCAPED_UNICODE | JSON_PRESERVE_ZERO_FRACTION;

    /** @var string where to connect, in the form that stream_socket_client takes */
    private $address;
    /** @var string host (and port) for the Host header */
    private $host;
    /** @var string the URL of the requests, for error messages */
    private $url;
    /** @var string the name that the server's certificate must have */
    private $peerName;
    /** @var string */
    private $path;
    /** @var string|null */
    private $key;
    /** @var string|null */
    private $keyFile;
    /** @var string the name of the file with the key that the server made */
    private $madeKey;
    /** @var string where the key of the last request came from, or where none was found; for error messages */
    private $keyOrigin = '';
    /** @var float */
    private $timeout;
    /** @var int */
    private $retries;
    /** @var array<string, mixed> */
    private $ssl;

    /**
     * @param string $url     the server: http://127.0.0.1:9090 or https://shop.example/tocsin
     * @param array  $options key: the key for sending; the content of a key file is fine. key_file: the file with
     *                        the key, which is read for every call. Without either, the key is the one in the
     *                        environment variable TOCSIN_KEY, in the file that TOCSIN_KEY_FILE names, or the one
     *                        that a server on this machine has made. timeout: seconds for one
     *                        call, from connecting to the last byte, all attempts together; 5 by default.
     *                        retries: how often to try again while the server is unavailable; 2 by default.
     *                        ssl: PHP's ssl context options (cafile …); certificates are always verified
     * @throws InvalidArgumentException if the URL or an option is wrong
     */
    public function __construct(
        string $url,
        #[\SensitiveParameter]
        array $options = []
    ) {
        $unknown = array_diff(array_keys($options), ['key', 'key_file', 'timeout', 'retries', 'ssl']);
        if ($unknown) {
            throw new InvalidArgumentException('new Tocsin() has no option ' . implode(', ', $unknown)
                . '. Its options are key, key_file, timeout, retries and ssl.');
        }
        $parts = parse_url($url);
        $scheme = strtolower($parts['scheme'] ?? '');
        $strange = array_diff(array_keys($parts ?: []), ['scheme', 'host', 'port', 'path']);
        if (!in_array($scheme, ['http', 'https'], true) || empty($parts['host']) || $strange
            || preg_match('/[^\x21-\x7e]/', $url)) {
            throw new InvalidArgumentException('The URL of new Tocsin() is wrong. Write it like http://127.0.0.1:9090'
                . ' or https://shop.example:9091, without user, query or fragment.');
        }
        $port = $parts['port'] ?? ($scheme === 'https' ? 443 : 80);
        $this->address = ($scheme === 'https' ? 'tls' : 'tcp') . '://' . $parts['host'] . ':' . $port;
        $this->host = $parts['host'] . (isset($parts['port']) ? ':' . $port : '');
        $this->peerName = trim($parts['host'], '[]');
        $this->path = rtrim($parts['path'] ?? '', '/') . '/messages';
        $this->url = "$scheme://{$this->host}{$this->path}";
        $this->key = isset($options['key']) ? self::firstLine((string) $options['key']) : null;
        if ($this->key === '') {
            throw new InvalidArgumentException('The option key is empty. Check that PHP may read the key file'
                . ' and that its first line is the key.');
        }
        // The key becomes part of a header line.
        if ($this->key !== null && preg_match('/[^\x21-\x7e]/', $this->key)) {
            throw new InvalidArgumentException('The option key contains a space or a character that is not ASCII,'
                . ' which no key has. Give the content of the key file.');
        }
        $this->keyFile = isset($options['key_file']) ? (string) $options['key_file'] : null;
        if ($this->key !== null && $this->keyFile !== null) {
            throw new InvalidArgumentException('Give new Tocsin() either the option key or the option key_file.');
        }
        $this->madeKey = $port === 9090 ? 'send.key' : "send-$port.key";
        $this->timeout = (float) ($options['timeout'] ?? 5);
        if ($this->timeout <= 0) {
            throw new InvalidArgumentException('The option timeout must be more than 0 seconds.');
        }
        $this->retries = $options['retries'] ?? 2;
        if (!is_int($this->retries) || $this->retries < 0) {
            throw new InvalidArgumentException('The option retries must be a whole number, 0 or more.');
        }
        $this->ssl = $options['ssl'] ?? [];
    }

    /**
     * Sends a message to one person. In the answer, `clients` is the number of connections that received
     * it, and `stored` says whether an inbox stores it. With 0 and false, send an e-mail instead.
     *
     * @param mixed $message anything that json_encode accepts
     * @param array $options ttl: after so many seconds the message is no longer delivered; mid: the message's
     *                       own name, by default a random one
     * @return array seq, clients, stored, mid; duplicate if the server had this mid already; partial if one
     *               of several servers did not answer in time, so that clients may be too low
     * @throws TocsinException if the message was not accepted
     */
    public function send(
        string $tag,
        #[\SensitiveParameter]
        string $id,
        $message,
        array $options = []
    ): array {
        return $this->publish(['action' => 'send', 'tag' => $tag, 'id' => $id, 'message' => $message], $options);
    }

    /**
     * Sends a message to everyone who listens on the tag.
     *
     * @param mixed $message anything that json_encode accepts
     * @param array $options as for send
     * @return array seq, clients, mid; duplicate and partial as for send
     * @throws TocsinException if the message was not accepted
     */
    public function broadcast(string $tag, $message, array $options = []): array
    {
        return $this->publish(['action' => 'broadcast', 'tag' => $tag, 'message' => $message], $options);
    }

    /**
     * Returns a person's unread messages, for a page that shows them before any script runs. Also pass
     * `epoch` and `seq` to the page: client.js takes them as `since` and then pops up only newer messages.
     *
     * @return array epoch, seq, count, and messages: the oldest first, each with tag, seq, at (in
     *               milliseconds since 1970), message, direct
     * @throws TocsinException if the server did not answer or refused
     */
    public function inbox(
        string $tag,
        #[\SensitiveParameter]
        string $id
    ): array {
        return $this->ask(['action' => 'inbox', 'tag' => $tag, 'id' => $id]);
    }

    /**
     * Marks messages as read: they leave the person's inbox on all devices.
     *
     * @param int|int[] $which a seq for all messages up to it, or an array of at most 1,000 seqs
     * @throws TocsinException if the server did not answer or refused
     */
    public function markRead(
        string $tag,
        #[\SensitiveParameter]
        string $id,
        $which
    ): void {
        if (!is_int($which) && !(is_array($which) && $which === array_filter($which, 'is_int'))) {
            throw new InvalidArgumentException('markRead() needs the seq of a message, or an array of them, as integers.');
        }
        if ($which !== []) {
            $this->ask(['action' => 'read', 'tag' => $tag, 'id' => $id]
                + (is_int($which) ? ['seq' => $which] : ['only' => array_values($which)]));
        }
    }

    /**
     * Logs a person out: closes all connections of the ID, which do not reconnect by themselves, and
     * empties the inbox. The server must have a key for `drop` on the tag.
     *
     * @return array seq, and clients: how many connections were closed; partial as for send
     * @throws TocsinException if the server did not answer or refused
     */
    public function drop(
        string $tag,
        #[\SensitiveParameter]
        string $id
    ): array {
        return $this->ask(['action' => 'drop', 'tag' => $tag, 'id' => $id]);
    }

    /**
     * Derives a person's ID from a secret of the site, so that you need not store it. Another version
     * gives another ID: use the next version if an ID may have become known. `server new-id --for` makes
     * the same IDs.
     *
     * @param string $secret the content of the secret's file: the first line, without white space around it
     * @throws InvalidArgumentException if the secret is too short or the user is empty
     */
    public static function id(
        #[\SensitiveParameter]
        string $secret,
        string $user,
        int $version = 1
    ): string {
        $secret = self::firstLine($secret);
        // If the file could not be read, or nobody is logged in, anyone could guess the ID.
        if (strlen($secret) < 16 || $user === '') {
            throw new InvalidArgumentException('Tocsin::id() needs a secret of at least 16 bytes and a user that is not empty.'
                . ' Check that PHP may read the secret and that somebody is logged in.');
        }
        // `server new-id` reads only text, so refuse here what it could not read.
        if (!preg_match('//u', $secret)) {
            throw new InvalidArgumentException('The secret for Tocsin::id() is not text in UTF-8. Store it as text, with bin2hex().');
        }
        return hash_hmac('sha256', $user . "\0" . $version, $secret);
    }

    /**
     * Returns the first line without white space around it, as the server reads files with a secret or a
     * key. Otherwise a line break at the end of the file would silently give another ID.
     */
    private static function firstLine(
        #[\SensitiveParameter]
        string $text
    ): string {
        $line = explode("\n", $text, 2)[0];
        // All white space of Unicode. preg_replace returns null if the line is not UTF-8.
        return preg_replace('/^[\s\pZ\x{85}]+|[\s\pZ\x{85}]+\z/u', '', $line) ?? $line;
    }

    /**
     * Sends up to 1,000 messages in one request. Each is accepted or refused by itself. Messages that the
     * server refuses with rate_limited are sent again at the time that it names, within the timeout.
     *
     * @param array $messages each with action ("send" or "broadcast"), tag, message, for send also
     *                        id, and optionally key, ttl, mid
     * @return array with the same array keys: for each message what send or broadcast return, or
     *               error, detail, outcome, mid
     * @throws TocsinException if no message was accepted because the request as a whole failed
     */
    public function batch(
        #[\SensitiveParameter]
        array $messages
    ): array {
        if (count($messages) > self::BATCH_MAX) {
            throw new InvalidArgumentException('batch() takes at most 1000 messages. Split the array with array_chunk().');
        }
        $bodies = $mids = $results = [];
        foreach ($messages as $at => $message) {
            $this->checkMessage($at, $message);
            $mids[$at] = $message['mid'] ?? self::newMid();
            if (is_string($message['key'] ?? null)) {
                $message['key'] = self::firstLine($message['key']);
            }
            $body = json_encode(['mid' => $mids[$at]] + array_filter($message, [self::class, 'isGiven'], ARRAY_FILTER_USE_BOTH), self::JSON);
            if ($body === false) {
                $error = 'PHP cannot write the message as JSON: ' . json_last_error_msg();
                $results[$at] = self::failed('bad_request', $error, 'refused', $mids[$at]);
            } else {
                $bodies[$at] = $body;
            }
        }
        $deadline = microtime(true) + $this->timeout;
        $unknown = false;
        $attempt = 0;
        while ($left = array_diff_key($bodies, $results)) {
            try {
                $replies = $this->exchangeBatch($left, $mids, $deadline);
            } catch (TocsinException $failure) {
                $unknown = $unknown || $failure->getOutcome() === 'unknown';
                if (!$failure->isFinal() && $this->waits($attempt, $deadline)) {
                    $attempt++;
                    continue;
                }
                $failure = $failure->afterAll($unknown);
                if (count($left) === count($bodies)) {
                    throw $failure;
                }
                // An earlier attempt was accepted for some messages: keep their results.
                $replies = array_fill_keys(array_keys($left), [
                    'error' => $failure->getError(), 'detail' => $failure->getDetail(), 'outcome' => $failure->getOutcome(),
                ]);
                $attempt = $this->retries;
            }
            $busy = $tooOften = [];
            foreach ($replies as $at => $reply) {
                if (!isset($reply['error'])) {
                    unset($reply['ok']);
                    $results[$at] = $reply + ['mid' => $mids[$at]];
                    continue;
                }
                $outcome = $unknown ? 'unknown' : $reply['outcome'] ?? 'refused';
                $results[$at] = self::failed($reply['error'], $reply['detail'] ?? '', $outcome, $mids[$at]);
                if ($reply['error'] === 'unavailable' && $attempt < $this->retries) {
                    $busy[$at] = $outcome;
                }
                $wait = ($reply['retry_in_ms'] ?? INF) / 1000;
                if (microtime(true) + $wait < $deadline) {
                    $tooOften[$at] = $wait;
                }
            }
            // With many wrong keys the server answers rate_limited instead of denied: waiting does not help.
            if (!array_column($replies, 'ok') && in_array('denied', array_column($replies, 'error'), true)) {
                $tooOften = [];
            }
            // rate_limited is not a failed attempt: the server is there and accepts more each time.
            $again = $busy + $tooOften;
            if ($again && $this->pauses(max([$this->backOff($attempt), ...array_values($tooOften)]), $deadline)) {
                $attempt += $busy ? 1 : 0;
                $unknown = $unknown || in_array('unknown', $busy, true);
                $results = array_diff_key($results, $again);
            }
        }
        // The results in the order of the messages.
        return array_replace($messages, $results);
    }

    /** @param int|string $at @param mixed $message */
    private function checkMessage(
        $at,
        #[\SensitiveParameter]
        $message
    ): void {
        $unknown = is_array($message)
            ? array_diff(array_keys($message), ['action', 'tag', 'id', 'message', 'key', 'ttl', 'mid'])
            : ['it is not an array'];
        if ($unknown) {
            throw new InvalidArgumentException("Message $at of batch() is wrong: " . implode(', ', $unknown)
                . '. A message is an array with action, tag, message and, as needed, id, key, ttl, mid.');
        }
        if (isset($message['mid']) && !is_string($message['mid'])) {
            throw new InvalidArgumentException("The mid of message $at of batch() must be a string.");
        }
        // The action is never guessed: a missing ID must not turn a message for one person into a broadcast.
        if (!in_array($message['action'] ?? null, ['send', 'broadcast'], true)) {
            throw new InvalidArgumentException("The action of message $at of batch() must be send or broadcast.");
        }
    }

    /** @param mixed $value @param string $name */
    private static function isGiven($value, $name): bool
    {
        return $value !== null || $name === 'message';
    }

    private static function failed(string $error, string $detail, string $outcome, string $mid): array
    {
        return ['error' => $error, 'detail' => $detail, 'outcome' => $outcome, 'mid' => $mid];
    }

    /**
     * @param array<string> $bodies
     * @param array<string> $mids
     * @return array[] a reply for each body, with the same array keys
     */
    private function exchangeBatch(
        #[\SensitiveParameter]
        array $bodies,
        array $mids,
        float $deadline
    ): array {
        $mids = array_values(array_intersect_key($mids, $bodies));
        [$status, $text] = $this->exchange('[' . implode(',', $bodies) . ']', $mids, $deadline);
        $replies = json_decode($text, true);
        if ($status !== 200 || !is_array($replies) || count($replies) !== count($bodies)
            || count(array_filter($replies, 'is_array')) !== count($bodies)) {
            throw $this->refusal($status, $replies, $mids);
        }
        return array_combine(array_keys($bodies), $replies);
    }

    private function publish(
        #[\SensitiveParameter]
        array $action,
        array $options
    ): array {
        $unknown = array_diff(array_keys($options), ['ttl', 'mid']);
        if ($unknown) {
            throw new InvalidArgumentException('send() and broadcast() have no option ' . implode(', ', $unknown)
                . '. Their options are ttl and mid; give the key to new Tocsin().');
        }
        $mid = $options['mid'] ?? self::newMid();
        $action['mid'] = $mid;
        if (isset($options['ttl'])) {
            $action['ttl'] = $options['ttl'];
        }
        return $this->ask($action, [$mid]) + ['mid' => $mid];
    }

    /**
     * Sends the request until there is an answer or the time is up. Nothing is delivered twice, because
     * every message has a mid.
     *
     * @param string[] $mids
     */
    private function ask(
        #[\SensitiveParameter]
        array $action,
        array $mids = []
    ): array {
        $body = json_encode($action, self::JSON);
        if ($body === false) {
            throw new TocsinException('bad_request', 'PHP cannot write the message as JSON: ' . json_last_error_msg(), 0, 'refused', $mids);
        }
        $deadline = microtime(true) + $this->timeout;
        $unknown = false;
        for ($attempt = 0;; $attempt++) {
            try {
                [$status, $text] = $this->exchange($body, $mids, $deadline);
                $reply = json_decode($text, true);
                if ($status !== 200 || !is_array($reply) || !isset($reply['ok'])) {
                    throw $this->refusal($status, $reply, $mids);
                }
                unset($reply['ok']);
                return $reply;
            } catch (TocsinException $failure) {
                $unknown = $unknown || $failure->getOutcome() === 'unknown';
                if ($failure->isFinal() || !$this->waits($attempt, $deadline)) {
                    throw $failure->afterAll($unknown);
                }
            }
        }
    }

    /** A message that is sent again with the same mid is delivered once. */
    private static function newMid(): string
    {
        return bin2hex(random_bytes(16));
    }

    /** Waits before a further attempt. Returns false if no attempt or no time is left. */
    private function waits(int $attempt, float $deadline): bool
    {
        return $attempt < $this->retries && $this->pauses($this->backOff($attempt), $deadline);
    }

    /** The wait in seconds. It is random, so that many senders do not return at the same moment. */
    private function backOff(int $attempt): float
    {
        return self::WAIT_FIRST * 2 ** $attempt * random_int(500, 1000) / 1000;
    }

    /** Waits so many seconds. Returns false if the deadline comes first. */
    private function pauses(float $wait, float $deadline): bool
    {
        if (microtime(true) + $wait >= $deadline) {
            return false;
        }
        usleep((int) ($wait * 1e6));
        return true;
    }

    /** @param mixed $reply @param string[] $mids */
    private function refusal(int $status, $reply, array $mids): TocsinException
    {
        if (is_array($reply) && is_string($reply['error'] ?? null)) {
            // An error without an outcome means that nothing was accepted.
            $outcome = $reply['outcome'] ?? 'refused';
            $detail = $reply['detail'] ?? '';
            if ($reply['error'] === 'denied' && $this->keyOrigin !== '') {
                $detail .= '; ' . $this->keyOrigin;
            }
            return new TocsinException($reply['error'], $detail, $status, $outcome, $mids);
        }
        $what = "{$this->url} answered with HTTP status $status, and the answer is not from a Tocsin server.";
        if (in_array($status, self::ELSEWHERE, true)) {
            // The gate and other servers answer 400 to a client that speaks to them without TLS.
            $tls = $status === 400 && $this->isPlain() ? ' If this is the port of the gate, write https:// instead of http://.' : '';
            return new TocsinException('unavailable', "$what Nothing was accepted. Check the URL.$tls", $status, 'refused', $mids);
        }
        // A proxy that gave up waiting for the server does not know what the server accepted.
        $whose = $status < 300 ? 'Check the URL.' : 'It may be from a proxy in front of the server.';
        return new TocsinException('unavailable', "$what $whose The request may have been accepted.", $status, 'unknown', $mids);
    }

    /** @param string[] $mids @return array{int, string} status and body */
    private function exchange(
        #[\SensitiveParameter]
        string $body,
        array $mids,
        float $deadline
    ): array {
        // Read for every attempt, because a server that restarts may have made another key.
        $key = $this->key ?? $this->findKey($mids);
        $stream = $this->connect($mids, $deadline);
        try {
            $head = "POST {$this->path} HTTP/1.1\r\nHost: {$this->host}\r\nContent-Type: application/json\r\n"
                . 'Content-Length: ' . strlen($body) . "\r\nConnection: close\r\n"
                . ($key === null ? '' : "Authorization: Bearer $key\r\n");
            $this->write($stream, $head . "\r\n" . $body, $deadline);
            [$answer, $ended] = $this->read($stream, $deadline);
        } finally {
            fclose($stream);
        }
        if (!preg_match('~^HTTP/1\.\d (\d{3})[^\r\n]*\r\n(.*?)\r\n\r\n(.*)$~s', $answer, $match)) {
            throw $this->noAnswer($answer, $ended, $mids);
        }
        [, $status, $headers, $text] = $match;
        if (preg_match('/^transfer-encoding:.*\bchunked/im', $headers)) {
            $text = self::joinChunks($text);
        }
        return [(int) $status, $text];
    }

    /**
     * Finds the key for sending: in the option key_file, in the environment, or where a server on this machine
     * and its administrator put keys.
     *
     * @param string[] $mids
     * @throws TocsinException if a file that was named cannot be read or holds no key
     */
    private function findKey(array $mids): ?string
    {
        $variable = getenv('TOCSIN_KEY');
        $file = $this->keyFile ?? (getenv('TOCSIN_KEY_FILE') ?: null);
        if ($this->keyFile === null && is_string($variable) && $variable !== '') {
            $this->keyOrigin = 'the key in TOCSIN_KEY was used';
            return $this->usable(self::firstLine($variable), 'TOCSIN_KEY', $mids);
        }
        if ($file !== null) {
            $this->keyOrigin = "the key in $file was used";
            $content = @file_get_contents($file, false, null, 0, self::KEY_FILE_MAX);
            if ($content === false) {
                throw new TocsinException('denied', "PHP cannot read the key file $file. Check that it exists and that"
                    . ' the user of PHP may read it.', 0, 'refused', $mids);
            }
            return $this->usable(self::firstLine($content), $file, $mids);
        }
        $tried = ['TOCSIN_KEY and TOCSIN_KEY_FILE are not set'];
        if (!self::isThisMachine($this->peerName)) {
            $tried[] = "/etc/tocsin and /run/tocsin hold keys for servers on this machine, and {$this->peerName} is not a"
                . ' loopback address';
        } else {
            foreach (self::keyDirectories() as $directory) {
                $file = "$directory/{$this->madeKey}";
                $fault = self::distrust($file);
                $content = $fault === null ? @file_get_contents($file, false, null, 0, self::KEY_FILE_MAX) : false;
                if ($content !== false) {
                    $this->keyOrigin = "the key in $file was used";
                    return $this->usable(self::firstLine($content), $file, $mids);
                }
                $tried[] = "$file: " . ($fault ?? 'PHP may not read it; is its user in the group tocsin?');
            }
        }
        $this->keyOrigin = 'no key was found: ' . implode('; ', $tried) . '. Give one with the option key_file.';
        return null;
    }

    /** @param string[] $mids */
    private function usable(
        #[\SensitiveParameter]
        string $key,
        string $from,
        array $mids
    ): string {
        // The key becomes part of a header line.
        if ($key === '' || preg_match('/[^\x21-\x7e]/', $key)) {
            throw new TocsinException('denied', "The first line of $from is not a key.", 0, 'refused', $mids);
        }
        return $key;
    }

    /** @return string[] */
    private static function keyDirectories(): array
    {
        $state = getenv('XDG_STATE_HOME') ?: '';
        if (strncmp($state, '/', 1) !== 0) {
            $home = getenv('HOME') ?: '';
            $state = strncmp($home, '/', 1) === 0 ? "$home/.local/state" : '';
        }
        return array_merge(['/etc/tocsin', '/run/tocsin'], $state === '' ? [] : ["$state/tocsin"]);
    }

    /** Whether a host is this machine. */
    private static function isThisMachine(string $host): bool
    {
        return strcasecmp($host, 'localhost') === 0 || $host === '::1'
            || (filter_var($host, FILTER_VALIDATE_IP, FILTER_FLAG_IPV4) !== false && strncmp($host, '127.', 4) === 0);
    }

    /**
     * Why a file is not taken, or null: only root, the user of PHP or the server's user, who owns the directory,
     * may have written it.
     */
    private static function distrust(string $file): ?string
    {
        clearstatcache();
        $status = @stat($file);
        $directory = @stat(dirname($file));
        if ($status === false || $directory === false) {
            return 'it does not exist, or PHP may not see it';
        }
        if (($status['mode'] & 0170000) !== 0100000) {
            return 'it is not a regular file';
        }
        if ((($status['mode'] | $directory['mode']) & 0022) !== 0) {
            return 'its group or all users may change it or its directory; run chmod go-w on both';
        }
        // PHP may lack the extension posix.
        $own = function_exists('posix_geteuid') ? posix_geteuid() : @fileowner('/proc/self');
        if (!in_array($status['uid'], [0, $own, $directory['uid']], true)) {
            return "it belongs to another user (uid {$status['uid']})";
        }
        return null;
    }

    private function isPlain(): bool
    {
        return strncmp($this->address, 'tcp:', 4) === 0;
    }

    /** For a connection on which no complete HTTP answer came. @param string[] $mids */
    private function noAnswer(string $came, bool $ended, array $mids): TocsinException
    {
        $plain = $this->isPlain();
        $final = false;
        if ($came !== '' && strncmp($came, 'HTTP/1.', min(7, strlen($came))) !== 0) {
            $final = true;
            $detail = "{$this->address} answered something that is not HTTP." . ($plain
                ? ' If this is the port of the gate, write https:// instead of http://.' : ' Check the URL.');
        } elseif (!$ended) {
            $detail = "no complete answer from {$this->address} within {$this->timeout} s. The request may have been accepted.";
        } elseif ($came !== '') {
            $detail = "{$this->address} closed the connection before the end of its answer. The request may have been accepted.";
        } else {
            $detail = "{$this->address} closed the connection without an answer. The request may have been accepted." . ($plain
                ? ' If this is a port of --listen-proxy, which is for the gate only, use a port of --listen.'
                    . ' If this is the port of the gate, write https:// instead of http://.' : '');
        }
        return new TocsinException('unavailable', $detail, 0, 'unknown', $mids, $final);
    }

    /** @param string[] $mids @return resource */
    private function connect(array $mids, float $deadline)
    {
        $ssl = ['verify_peer' => true, 'verify_peer_name' => true] + $this->ssl + ['peer_name' => $this->peerName];
        $context = stream_context_create(['ssl' => $ssl]);
        // PHP gives the reason of a failed TLS handshake only in a warning.
        $warnings = [];
        set_error_handler(static function (int $level, string $text) use (&$warnings): bool {
            $warnings[] = preg_replace('/^stream_socket_client\(\): /', '', $text);
            return true;
        });
        try {
            $left = max(0.001, $deadline - microtime(true));
            $stream = stream_socket_client($this->address, $errno, $error, $left, STREAM_CLIENT_CONNECT, $context);
        } finally {
            restore_error_handler();
        }
        if ($stream === false) {
            $reason = $error !== '' ? $error : ($warnings[0] ?? 'PHP gives no reason');
            throw new TocsinException('unavailable', "cannot connect to {$this->address}: $reason", 0, 'refused', $mids, $errno === 0);
        }
        stream_set_blocking($stream, false);
        return $stream;
    }

    /** @param resource $stream */
    private function write($stream, string $data, float $deadline): void
    {
        // A server that refuses early stops reading. Its answer gives the reason, not the failed write.
        while ($data !== '') {
            $written = @fwrite($stream, $data);
            if ($written === false) {
                return;
            }
            $data = (string) substr($data, $written);
            if ($data !== '' && !$this->ready($stream, $deadline, true)) {
                return;
            }
        }
    }

    /** @param resource $stream @return array{string, bool} what was received, and whether the peer closed */
    private function read($stream, float $deadline): array
    {
        $answer = '';
        while (strlen($answer) < self::REPLY_MAX) {
            $bytes = @fread($stream, 65536);
            if ($bytes !== false && $bytes !== '') {
                $answer .= $bytes;
            } elseif ($bytes === false || feof($stream)) {
                return [$answer, true];
            } elseif (!$this->ready($stream, $deadline, false)) {
                break;
            }
        }
        return [$answer, false];
    }

    /**
     * Waits until the stream can be written (or read). Returns false if the deadline comes first.
     *
     * @param resource $stream
     */
    private function ready($stream, float $deadline, bool $toWrite): bool
    {
        $left = max(0.0, $deadline - microtime(true));
        $read = $toWrite ? null : [$stream];
        $write = $toWrite ? [$stream] : null;
        $except = null;
        $count = @stream_select($read, $write, $except, (int) $left, (int) (fmod($left, 1) * 1e6));
        // A signal interrupts stream_select, which then returns false: try again while there is time.
        return $count === false ? microtime(true) < $deadline : $count > 0;
    }

    private static function joinChunks(string $text): string
    {
        $joined = '';
        while (preg_match('/^([0-9a-f]+)[^\r\n]*\r\n/i', $text, $match)) {
            $size = (int) hexdec($match[1]);
            $joined .= substr($text, strlen($match[0]), $size);
            $text = (string) substr($text, strlen($match[0]) + $size + 2);
        }
        return $joined;
    }
}

/** Thrown if a message, a whole batch or another request was not accepted. */
final class TocsinException extends RuntimeException
{
    /** @var string */
    private $error;
    /** @var string */
    private $detail;
    /** @var string */
    private $outcome;
    /** @var string[] */
    private $mids;
    /** @var bool */
    private $final;

    /** @param string[] $mids */
    public function __construct(string $error, string $detail, int $status, string $outcome, array $mids, bool $final = false)
    {
        parent::__construct($detail === '' ? $error : "$error: $detail", $status);
        $this->error = $error;
        $this->detail = $detail;
        $this->outcome = $outcome;
        $this->mids = $mids;
        // A wrong host or certificate stays wrong at the next attempt.
        $this->final = $final || $error !== 'unavailable' || ($status > 0 && $status < 500);
    }

    /** The error code of the protocol: denied, weak_id, bad_tag, too_large, rate_limited, unavailable … */
    public function getError(): string
    {
        return $this->error;
    }

    /** The explanation for people: what happened and what to change. */
    public function getDetail(): string
    {
        return $this->detail;
    }

    /** "refused": certainly not delivered. "unknown": perhaps delivered; send it again with the same mid. */
    public function getOutcome(): string
    {
        return $this->outcome;
    }

    /** The mid of the message, to send it again with. */
    public function getMid(): string
    {
        return $this->mids[0] ?? '';
    }

    /** The mids of all messages of a batch, in their order. @return string[] */
    public function getMids(): array
    {
        return $this->mids;
    }

    /** Whether a further attempt would fail in the same way. */
    public function isFinal(): bool
    {
        return $this->final;
    }

    /** The same exception after several attempts, one of which may have been accepted. */
    public function afterAll(bool $unknown): self
    {
        $outcome = $unknown ? 'unknown' : $this->outcome;
        return $outcome === $this->outcome ? $this : new self($this->error, $this->detail, $this->code, $outcome, $this->mids, $this->final);
    }
}
