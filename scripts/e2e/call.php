<?php

declare(strict_types=1);

// One call of the class, described as JSON on standard input; its result as JSON on standard output.

error_reporting(E_ALL);
set_error_handler(static function (int $level, string $text): bool {
    // Silenced with @: the class looks at the result instead.
    return !(error_reporting() & $level) ? true : throw new ErrorException($text);
});

require __DIR__ . '/../../clients/php/src/Tocsin.php';

$order = json_decode(file_get_contents('php://stdin'), true);
try {
    $on = $order['url'] === null ? 'Tocsin' : new Tocsin($order['url'], $order['options']);
    $result = call_user_func_array([$on, $order['call']], $order['args']);
} catch (TocsinException $e) {
    $result = [
        'error' => $e->getError(),
        'outcome' => $e->getOutcome(),
        'status' => $e->getCode(),
        'mid' => $e->getMid(),
        'mids' => $e->getMids(),
        'message' => (string) $e,
    ];
} catch (InvalidArgumentException $e) {
    $result = ['invalid' => $e->getMessage()];
}
echo json_encode($result);
