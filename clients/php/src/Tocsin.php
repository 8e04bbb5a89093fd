<?php

declare(strict_types=1);

/**
 * Sends notifications through a Tocsin server, and reads a person's inbox for a page that PHP
 * renders. This one file is all there is: no extension beyond hash and json (and openssl for
 * https), no dependency, no namespace to import.
 *
 * An object holds no connection, so it may be kept or made anew for every message.
 */
final class Tocsin
{
    /** An inbox holds 1 MiB unless the server is told otherwise; all else stays far below. */
    private const REPLY_MAX = 16777216;
    /** The server takes no more in one request. */
    private const BATCH_MAX = 1000;
    /** What says that nobody is there who could accept anything. */
    private const ELSEWHERE = [301, 302, 303, 307, 308, 400, 404, 405];
    /** Before the first attempt to send again, in seconds at most; it doubles with each further one. */
    private const WAIT_FIRST = 0.2;
    private const JSON = JSON_UNESCAPED_SLASHES | JSON_UNESCAPED_UNICODE | JSON_PRESERVE_ZERO_FRACTION;

    /** @var string where to connect, as stream_socket_client wants it */
    private $address;
    /** @var string host (and port) as the server is to see it */
    private $host;
    /** @var string what is asked, for people */
    private $url;
    /** @var string name that the certificate must carry */
    private $peerName;
    /** @var string */
    private $path;
    /** @var string|null */
    private $key;
    /** @var float */
    private $timeout;
    /** @var int */
    private $retries;
    /** @var array<string, mixed> */
    private $ssl;

    /**
     * @param string $url     of the server: http://127.0.0.1:9090 or https://shop.example/tocsin
     * @param array  $options key: for protected tags, as its file has it; timeout: seconds for one call, from connecting
     *                        to the last byte and all attempts together, 5 by default; retries:
     *                        further attempts while the server is unavailable, 2 by default; ssl:
     *                        PHP's ssl context options (cafile …), certificates are always verified
     * @throws InvalidArgumentException
     */
    public function __construct(
        string $url,
        #[\SensitiveParameter]
        array $options = []
    ) {
        $unknown = array_diff(array_keys($options), ['key', 'timeout', 'retries', 'ssl']);
        if ($unknown) {
            throw new InvalidArgumentException('Unknown option: ' . implode(', ', $unknown));
        }
        $parts = parse_url($url);
        $scheme = strtolower($parts['scheme'] ?? '');
        $strange = array_diff(array_keys($parts ?: []), ['scheme', 'host', 'port', 'path']);
        if (!in_array($scheme, ['http', 'https'], true) || empty($parts['host']) || $strange
            || preg_match('/[^\x21-\x7e]/', $url)) {
            throw new InvalidArgumentException('The URL must look like http://127.0.0.1:9090');
        }
        $port = $parts['port'] ?? ($scheme === 'https' ? 443 : 80);
        $this->address = ($scheme === 'https' ? 'tls' : 'tcp') . '://' . $parts['host'] . ':' . $port;
        $this->host = $parts['host'] . (isset($parts['port']) ? ':' . $port : '');
        $this->peerName = trim($parts['host'], '[]');
        $this->path = rtrim($parts['path'] ?? '', '/') . '/messages';
        $this->url = "$scheme://{$this->host}{$this->path}";
        $this->key = isset($options['key']) ? self::firstLine((string) $options['key']) : null;
        if ($this->key === '') {
            throw new InvalidArgumentException('The key is empty: could its file be read?');
        }
        // It becomes a header line.
        if ($this->key !== null && preg_match('/[^\x21-\x7e]/', $this->key)) {
            throw new InvalidArgumentException('The key holds what no key has, such as a space');
        }
        $this->timeout = (float) ($options['timeout'] ?? 5);
        if ($this->timeout <= 0) {
            throw new InvalidArgumentException('The timeout must be more than 0 seconds');
        }
        $this->retries = $options['retries'] ?? 2;
        if (!is_int($this->retries) || $this->retries < 0) {
            throw new InvalidArgumentException('The retries must be a number, 0 or more');
        }
        $this->ssl = $options['ssl'] ?? [];
    }

    /**
     * To one person. `clients` and `stored` of the answer tell whether anyone listens or an inbox
     * keeps it: 0 and false mean that an e-mail is due.
     *
     * @param mixed $message anything that json_encode takes
     * @param array $options ttl: seconds it stays of use; mid: its own name (one is made otherwise)
     * @return array seq, clients, stored, mid; duplicate where the mid was known; partial where one of
     *               several servers did not answer in time, so that clients is the least
     * @throws TocsinException
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
     * To everyone who listens on the tag.
     *
     * @param mixed $message anything that json_encode takes
     * @param array $options as for send
     * @return array seq, clients, mid, and duplicate and partial as for send
     * @throws TocsinException
     */
    public function broadcast(string $tag, $message, array $options = []): array
    {
        return $this->publish(['action' => 'broadcast', 'tag' => $tag, 'message' => $message], $options);
    }

    /**
     * A person's unread messages, for a page that shows them before any script runs. Give the page
     * `epoch` and `seq` as well: its client takes them as `since`, and pops up only what is newer.
     *
     * @return array epoch, seq, count, and messages: the oldest first, each with tag, seq, at (in
     *               milliseconds since 1970), message, direct
     * @throws TocsinException
     */
    public function inbox(
        string $tag,
        #[\SensitiveParameter]
        string $id
    ): array {
        return $this->ask(['action' => 'inbox', 'tag' => $tag, 'id' => $id]);
    }

    /**
     * Takes messages out of a person's inbox, on all devices: those up to a seq, or only some.
     *
     * @param int|int[] $which a seq, or a list of 1,000 at most
     * @throws TocsinException
     */
    public function markRead(
        string $tag,
        #[\SensitiveParameter]
        string $id,
        $which
    ): void {
        if (!is_int($which) && !(is_array($which) && $which === array_filter($which, 'is_int'))) {
            throw new InvalidArgumentException('What was read is a seq or an array of them');
        }
        if ($which !== []) {
            $this->ask(['action' => 'read', 'tag' => $tag, 'id' => $id]
                + (is_int($which) ? ['seq' => $which] : ['only' => array_values($which)]));
        }
    }

    /**
     * Logs a person out: closes all connections under the ID, which do not come back by themselves,
     * and empties the inbox. The server must have a key for `drop` on the tag.
     *
     * @return array seq, and clients: the connections that were closed; partial as for send
     * @throws TocsinException
     */
    public function drop(
        string $tag,
        #[\SensitiveParameter]
        string $id
    ): array {
        return $this->ask(['action' => 'drop', 'tag' => $tag, 'id' => $id]);
    }

    /**
     * A person's ID from a secret of the site, so that none needs to be stored. Another version is
     * another ID: count it up when an ID may have become known. `server new-id --for` agrees.
     *
     * @param string $secret as its file has it: its first line counts, without white space around it
     * @throws InvalidArgumentException
     */
    public static function id(
        #[\SensitiveParameter]
        string $secret,
        string $user,
        int $version = 1
    ): string {
        $secret = self::firstLine($secret);
        // A file that could not be read, a user who is not logged in: an ID that anyone could guess.
        if (strlen($secret) < 16 || $user === '') {
            throw new InvalidArgumentException('An ID needs a secret of at least 16 bytes and a user');
        }
        // The command line could not read it: better known now than when the two are to agree.
        if (!preg_match('//u', $secret)) {
            throw new InvalidArgumentException('The secret is no text: bin2hex makes one of it');
        }
        return hash_hmac('sha256', $user . "\0" . $version, $secret);
    }

    /**
     * What the server and its command line take of a file with a secret or a key: the first line,
     * without white space around it. Else a line break at its end would silently make another ID.
     */
    private static function firstLine(
        #[\SensitiveParameter]
        string $text
    ): string {
        $line = explode("\n", $text, 2)[0];
        // All that is white space in Unicode; null for what is no text.
        return preg_replace('/^[\s\pZ\x{85}]+|[\s\pZ\x{85}]+\z/u', '', $line) ?? $line;
    }

    /**
     * Up to 1,000 messages in one request, each accepted or refused by itself. What is refused because
     * it is too much at once is sent again when the server says, within the timeout.
     *
     * @param array $messages each with action ("send" or "broadcast"), tag, message, for send also
     *                        id, and as wanted key, ttl, mid
     * @return array under the same array keys, for each message what send or broadcast return, or
     *               error, detail, outcome, mid
     * @throws TocsinException if the request as a whole came to nothing
     */
    public function batch(
        #[\SensitiveParameter]
        array $messages
    ): array {
        if (count($messages) > self::BATCH_MAX) {
            throw new InvalidArgumentException('A batch holds at most 1000 messages: use array_chunk');
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
                $error = 'the message is not JSON: ' . json_last_error_msg();
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
                // Some were accepted by an attempt before: their results must not be lost.
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
            // So many wrong keys that the server does not even look at them: later they fit no better.
            if (!array_column($replies, 'ok') && in_array('denied', array_column($replies, 'error'), true)) {
                $tooOften = [];
            }
            // What came too often is no attempt that failed: the server is there, and takes more each time.
            $again = $busy + $tooOften;
            if ($again && $this->pauses(max([$this->backOff($attempt), ...array_values($tooOften)]), $deadline)) {
                $attempt += $busy ? 1 : 0;
                $unknown = $unknown || in_array('unknown', $busy, true);
                $results = array_diff_key($results, $again);
            }
        }
        // In the order of the messages.
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
            : ['not an array'];
        if ($unknown) {
            throw new InvalidArgumentException("Message $at has what no message has: " . implode(', ', $unknown));
        }
        if (isset($message['mid']) && !is_string($message['mid'])) {
            throw new InvalidArgumentException("The mid of message $at must be a string");
        }
        // Never guessed: a lost ID must not turn what is for one person into a broadcast.
        if (!in_array($message['action'] ?? null, ['send', 'broadcast'], true)) {
            throw new InvalidArgumentException("The action of message $at must be send or broadcast");
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
     * @return array[] a reply for each body, under its key
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
            throw new InvalidArgumentException('Unknown option: ' . implode(', ', $unknown));
        }
        $mid = $options['mid'] ?? self::newMid();
        $action['mid'] = $mid;
        if (isset($options['ttl'])) {
            $action['ttl'] = $options['ttl'];
        }
        return $this->ask($action, [$mid]) + ['mid' => $mid];
    }

    /**
     * Asks until there is an answer; nothing is done twice for it, as what is sent has a mid.
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
            throw new TocsinException('bad_request', 'not JSON: ' . json_last_error_msg(), 0, 'refused', $mids);
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

    /** Under its own name a message may be sent again without being delivered twice. */
    private static function newMid(): string
    {
        return bin2hex(random_bytes(16));
    }

    /** Waits before a further attempt, if one is due and there is time. */
    private function waits(int $attempt, float $deadline): bool
    {
        return $attempt < $this->retries && $this->pauses($this->backOff($attempt), $deadline);
    }

    /** In seconds. Not all at the same moment, should many have been refused in one. */
    private function backOff(int $attempt): float
    {
        return self::WAIT_FIRST * 2 ** $attempt * random_int(500, 1000) / 1000;
    }

    /** Waits so many seconds, if there is time. */
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
            // Without an outcome of its own an error means that nothing was accepted.
            $outcome = $reply['outcome'] ?? 'refused';
            return new TocsinException($reply['error'], $reply['detail'] ?? '', $status, $outcome, $mids);
        }
        $words = "HTTP status $status from {$this->url} in words that are not Tocsin's";
        if (in_array($status, self::ELSEWHERE, true)) {
            // As the gate and other servers answer who speaks to them without TLS.
            $tls = $status === 400 && $this->isPlain() ? ' If that is the gate, it begins with https:' : '';
            return new TocsinException('unavailable', "$words: is the URL right?$tls", $status, 'refused', $mids);
        }
        // Something before the server may have given up waiting for it: that refuses nothing.
        $whose = $status < 300 ? 'is the URL right?' : "perhaps a proxy's:";
        return new TocsinException('unavailable', "$words, $whose what was asked may have been accepted", $status, 'unknown', $mids);
    }

    /** @param string[] $mids @return array{int, string} status and body */
    private function exchange(
        #[\SensitiveParameter]
        string $body,
        array $mids,
        float $deadline
    ): array {
        $stream = $this->connect($mids, $deadline);
        try {
            $head = "POST {$this->path} HTTP/1.1\r\nHost: {$this->host}\r\nContent-Type: application/json\r\n"
                . 'Content-Length: ' . strlen($body) . "\r\nConnection: close\r\n"
                . ($this->key === null ? '' : "Authorization: Bearer {$this->key}\r\n");
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

    private function isPlain(): bool
    {
        return strncmp($this->address, 'tcp:', 4) === 0;
    }

    /** Connected, and then no answer came. @param string[] $mids */
    private function noAnswer(string $came, bool $ended, array $mids): TocsinException
    {
        $plain = $this->isPlain();
        $final = false;
        if ($came !== '' && strncmp($came, 'HTTP/1.', min(7, strlen($came))) !== 0) {
            $final = true;
            $detail = "{$this->address} answers what is not HTTP" . ($plain ? '; if that is the gate, the URL begins with https:' : '');
        } elseif (!$ended) {
            $detail = "no complete answer from {$this->address} within {$this->timeout} s";
        } elseif ($came !== '') {
            $detail = "{$this->address} closed the connection before the end of its answer";
        } else {
            $detail = "{$this->address} closed the connection without an answer" . ($plain
                ? '; if that is a port of --listen-proxy, which is for the gate, take one of --listen; if it is the gate, https:' : '');
        }
        return new TocsinException('unavailable', $detail, 0, 'unknown', $mids, $final);
    }

    /** @param string[] $mids @return resource */
    private function connect(array $mids, float $deadline)
    {
        $ssl = ['verify_peer' => true, 'verify_peer_name' => true] + $this->ssl + ['peer_name' => $this->peerName];
        $context = stream_context_create(['ssl' => $ssl]);
        // PHP tells the reason of a failed TLS handshake only in a warning.
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
            $reason = $error !== '' ? $error : ($warnings[0] ?? 'no reason given');
            throw new TocsinException('unavailable', "no connection to {$this->address}: $reason", 0, 'refused', $mids, $errno === 0);
        }
        stream_set_blocking($stream, false);
        return $stream;
    }

    /** @param resource $stream */
    private function write($stream, string $data, float $deadline): void
    {
        // A server that refuses early stops reading; its answer, not the failed write, tells why.
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

    /** @param resource $stream @return array{string, bool} what came, and whether the other side then ended */
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
     * Waits until the stream can be written (or read), or the deadline has passed: then false.
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
        // A signal ends the wait early with false: the caller tries again while there is time.
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

/** Why a message, a batch as a whole, or another request was not accepted. */
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
        // What another host says, or a certificate, is the same at the next attempt.
        $this->final = $final || $error !== 'unavailable' || ($status > 0 && $status < 500);
    }

    /** As in the protocol: denied, weak_id, bad_tag, too_large, rate_limited, unavailable … */
    public function getError(): string
    {
        return $this->error;
    }

    /** For people: what to change. */
    public function getDetail(): string
    {
        return $this->detail;
    }

    /** "refused": surely not delivered. "unknown": it may be; send it again with the same mid. */
    public function getOutcome(): string
    {
        return $this->outcome;
    }

    /** The message's mid, for sending it again. */
    public function getMid(): string
    {
        return $this->mids[0] ?? '';
    }

    /** The mids of all messages of the batch, in their order. @return string[] */
    public function getMids(): array
    {
        return $this->mids;
    }

    /** Whether a further attempt would end in the same way. */
    public function isFinal(): bool
    {
        return $this->final;
    }

    /** The same after several attempts, of which one may have been accepted. */
    public function afterAll(bool $unknown): self
    {
        $outcome = $unknown ? 'unknown' : $this->outcome;
        return $outcome === $this->outcome ? $this : new self($this->error, $this->detail, $this->code, $outcome, $this->mids, $this->final);
    }
}
