<?php

declare(strict_types=1);

// A WebSocket sender as old sites have it: no Origin, no extensions, no waiting for an answer and no
// closing handshake. Usage: php send-and-leave.php ADDR:PORT < frame

$socket = stream_socket_client('tcp://' . $argv[1], $errno, $error, 10);
if ($socket === false) {
    fwrite(STDERR, $error);
    exit(1);
}
fwrite($socket, "GET / HTTP/1.1\r\nHost: {$argv[1]}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    . 'Sec-WebSocket-Key: ' . base64_encode(random_bytes(16)) . "\r\nSec-WebSocket-Version: 13\r\n\r\n");
$head = '';
while (substr($head, -4) !== "\r\n\r\n") {
    $byte = fread($socket, 1);
    if ($byte === false || $byte === '') {
        fwrite(STDERR, "no upgrade: $head");
        exit(1);
    }
    $head .= $byte;
}
$text = stream_get_contents(STDIN);
$size = strlen($text);
$mask = random_bytes(4);
$length = $size < 126 ? chr(0x80 | $size) : chr(0x80 | 126) . pack('n', $size);
fwrite($socket, "\x81" . $length . $mask . ($text ^ str_repeat($mask, intdiv($size, 4) + 1)));
fclose($socket);
