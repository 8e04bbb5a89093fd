// A notification server on npm's `ws`, for comparison: joins are answered, broadcasts go to the tag.
'use strict';

const http = require('node:http');
const { WebSocket, WebSocketServer } = require('ws');

const audiences = new Map();

function join(socket, tag) {
  if (!audiences.has(tag)) audiences.set(tag, new Set());
  const audience = audiences.get(tag);
  audience.add(socket);
  socket.on('close', () => audience.delete(socket));
  socket.send(`{"ok":"set","tag":${JSON.stringify(tag)}}`);
}

function broadcast(tag, message) {
  // As the package's README does it, from a buffer, so that each client is spared the conversion.
  const data = Buffer.from(JSON.stringify(message));
  for (const client of audiences.get(tag) ?? []) {
    if (client.readyState === WebSocket.OPEN) client.send(data, { binary: false });
  }
}

const server = http.createServer();
const sockets = new WebSocketServer({ server, maxPayload: 128 * 1024, perMessageDeflate: false });
sockets.on('connection', (socket) => {
  socket.on('error', () => {});
  socket.on('message', (data) => {
    const request = JSON.parse(data.toString());
    if (request.action === 'set') {
      join(socket, request.tag);
    } else {
      broadcast(request.tag, request.message);
      socket.send('{"ok":"broadcast"}');
    }
  });
});
server.listen({ host: '127.0.0.1', port: 0, backlog: 4096 }, () => {
  console.log(`listening ws 127.0.0.1:${server.address().port}`);
});
