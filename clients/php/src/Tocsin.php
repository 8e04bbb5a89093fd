<?php

declare(strict_types=1);

/**
 * Sends notifications through a Tocsin server. This one file is all there is: no extension beyond
 * hash and json (and openssl for https), no dependency, no namespace to import.
 *
 * An object holds no connection, so it may be kept or made anew for every message.
 */
final class Tocsin
{
    /** A reply holds a few numbers for each message; a batch of a thousand stays far below. */
    private const REPLY_MAX = 1048576;

    /** @var string where to connect, as stream_socket_client wants it */
    private $address;
    /** @var string host (and port) as the server is to see it */
    private $host;
    /** @var string name that the certificate must carry */
    private $peerName;
    /** @var string */
    private $path;
    /** @var string|null */
    private $key;
    /** @var float */
    private $timeout;
    /** @var array<string, mixed> */
    private $ssl;

    /**
     * @param string $url     of the server: http://127.0.0.1:9090 or https://shop.example/tocsin
     * @param array  $options key: for protected tags; timeout: seconds for one message from
     *                        connecting to the last byte, 5 by default; ssl: PHP's ssl context
     *                        options (cafile …), certificates are always verified
     * @throws InvalidArgumentException
     */
    public function __construct(
        string $url,
        #[\SensitiveParameter]
        array $options = []
    ) {
        $unknown = array_diff(array_keys($options), ['key', 'timeout', 'ssl']);
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
        $this->key = $options['key'] ?? null;
        // The key becomes a header line: a line break read along with it from a file must not.
        if ($this->key !== null && preg_match('/[^\x21-\x7e]/', $this->key)) {
            throw new InvalidArgumentException('The key holds a space or a line break: trim it');
        }
        $this->timeout = (float) ($options['timeout'] ?? 5);
        if ($this->timeout <= 0) {
            throw new InvalidArgumentException('The timeout must be more than 0 seconds');
        }
        $this->ssl = $options['ssl'] ?? [];
    }

    /**
     * To one person. `clients` and `stored` of the answer tell whether anyone listens or an inbox
     * keeps it: 0 and false mean that an e-mail is due.
     *
     * @param mixed $message anything that json_encode takes
     * @param array $options ttl: seconds it stays of use; mid: its own name (one is made otherwise)
     * @return array seq, clients, stored, mid, and duplicate where the mid was known
     * @throws TocsinException
     */
    public function send(
        string $tag,
        #[\SensitiveParameter]
        string $id,
        $message,
        array $options = []
    ): array {
        return $this->post(['action' => 'send', 'tag' => $tag, 'id' => $id, 'message' => $message], $options);
    }

    /**
     * To everyone who listens on the tag.
     *
     * @param mixed $message anything that json_encode takes
     * @param array $options as for send
     * @return array seq, clients, mid, and duplicate where the mid was known
     * @throws TocsinException
     */
    public function broadcast(string $tag, $message, array $options = []): array
    {
        return $this->post(['action' => 'broadcast', 'tag' => $tag, 'message' => $message], $options);
    }

    /**
     * A person's ID from a secret of the site, so that none needs to be stored. Another version is
     * another ID: count it up when an ID may have become known. `server new-id --for` agrees.
     */
    public static function id(
        #[\SensitiveParameter]
        string $secret,
        string $user,
        int $version = 1
    ): string {
        return hash_hmac('sha256', $user . "\0" . $version, $secret);
    }

    private function post(
        #[\SensitiveParameter]
        array $action,
        array $options
    ): array {
        $unknown = array_diff(array_keys($options), ['ttl', 'mid']);
        if ($unknown) {
            throw new InvalidArgumentException('Unknown option: ' . implode(', ', $unknown));
        }
        // Under its own name a message may be sent again without being delivered twice.
        $mid = $options['mid'] ?? bin2hex(random_bytes(16));
        $action['mid'] = $mid;
        if (isset($options['ttl'])) {
            $action['ttl'] = $options['ttl'];
        }
        $flags = JSON_UNESCAPED_SLASHES | JSON_UNESCAPED_UNICODE | JSON_PRESERVE_ZERO_FRACTION;
        $body = json_encode($action, $flags);
        if ($body === false) {
            throw new TocsinException('bad_request', 'the message is not JSON: ' . json_last_error_msg(), 0, 'refused', $mid);
        }
        [$status, $text] = $this->exchange($body, $mid);
        $reply = json_decode($text, true);
        if ($status !== 200 || !is_array($reply) || !isset($reply['ok'])) {
            throw $this->refusal($status, $reply, $mid);
        }
        unset($reply['ok']);
        return $reply + ['mid' => $mid];
    }

    /** @param mixed $reply */
    private function refusal(int $status, $reply, string $mid): TocsinException
    {
        if (is_array($reply) && is_string($reply['error'] ?? null)) {
            // Without an outcome of its own an error means that nothing was accepted.
            $outcome = $reply['outcome'] ?? 'refused';
            return new TocsinException($reply['error'], $reply['detail'] ?? '', $status, $outcome, $mid);
        }
        // Not the server's words: of a proxy before it, or of something else entirely.
        return new TocsinException('unavailable', "the answer is not Tocsin's (HTTP status $status)", $status, 'unknown', $mid);
    }

    /** @return array{int, string} status and body */
    private function exchange(
        #[\SensitiveParameter]
        string $body,
        string $mid
    ): array {
        $deadline = microtime(true) + $this->timeout;
        $stream = $this->connect($mid);
        try {
            $head = "POST {$this->path} HTTP/1.1\r\nHost: {$this->host}\r\nContent-Type: application/json\r\n"
                . 'Content-Length: ' . strlen($body) . "\r\nConnection: close\r\n"
                . ($this->key === null ? '' : "Authorization: Bearer {$this->key}\r\n");
            $this->write($stream, $head . "\r\n" . $body, $deadline);
            $answer = $this->read($stream, $deadline);
        } finally {
            fclose($stream);
        }
        if (!preg_match('~^HTTP/1\.\d (\d{3})[^\r\n]*\r\n(.*?)\r\n\r\n(.*)$~s', $answer, $match)) {
            throw new TocsinException('unavailable', 'no complete answer within the timeout', 0, 'unknown', $mid);
        }
        [, $status, $headers, $text] = $match;
        if (preg_match('/^transfer-encoding:.*\bchunked/im', $headers)) {
            $text = self::joinChunks($text);
        }
        return [(int) $status, $text];
    }

    /** @return resource */
    private function connect(string $mid)
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
            $stream = stream_socket_client($this->address, $errno, $error, $this->timeout, STREAM_CLIENT_CONNECT, $context);
        } finally {
            restore_error_handler();
        }
        if ($stream === false) {
            $reason = $error !== '' ? $error : ($warnings[0] ?? 'no reason given');
            throw new TocsinException('unavailable', "no connection to {$this->address}: $reason", 0, 'refused', $mid);
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

    /** @param resource $stream */
    private function read($stream, float $deadline): string
    {
        $answer = '';
        while (strlen($answer) < self::REPLY_MAX) {
            $bytes = @fread($stream, 65536);
            if ($bytes !== false && $bytes !== '') {
                $answer .= $bytes;
            } elseif ($bytes === false || feof($stream) || !$this->ready($stream, $deadline, false)) {
                break;
            }
        }
        return $answer;
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

/** Why a message was not accepted. */
final class TocsinException extends RuntimeException
{
    /** @var string */
    private $error;
    /** @var string */
    private $outcome;
    /** @var string */
    private $mid;

    public function __construct(string $error, string $detail, int $status, string $outcome, string $mid)
    {
        parent::__construct($detail === '' ? $error : "$error: $detail", $status);
        $this->error = $error;
        $this->outcome = $outcome;
        $this->mid = $mid;
    }

    /** As in the protocol: denied, weak_id, bad_tag, too_large, rate_limited, unavailable … */
    public function getError(): string
    {
        return $this->error;
    }

    /** "refused": surely not delivered. "unknown": it may be; send it again with the same mid. */
    public function getOutcome(): string
    {
        return $this->outcome;
    }

    /** The message's mid, for sending it again. */
    public function getMid(): string
    {
        return $this->mid;
    }
}
