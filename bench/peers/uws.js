// A notification server on uWebSockets, for comparison: joins are answered, broadcasts go to the tag.
'use strict';

const uWS = require('@trufflesuite/uws-js-unofficial');

// Where there is no binary for this Node, the package imitates uWebSockets: that is not what it costs.
if (!Object.keys(require.cache).some((file) => file.endsWith('.node'))) {
  throw new Error(`there is no uWebSockets for Node ${process.version}`);
}

const app = uWS.App();
app.ws('/*', {
  compression: uWS.DISABLED,
  idleTimeout: 120,
  maxPayloadLength: 128 * 1024,
  // As much as a client of ours may have waiting.
  maxBackpressure: 256 * 1024,
  message(socket, data) {
    const request = JSON.parse(Buffer.from(data).toString());
    if (request.action === 'set') {
      socket.subscribe(request.tag);
      socket.send(`{"ok":"set","tag":${JSON.stringify(request.tag)}}`);
    } else {
      app.publish(request.tag, JSON.stringify(request.message));
      socket.send('{"ok":"broadcast"}');
    }
  },
});
app.listen('127.0.0.1', 0, (listener) => {
  if (!listener) throw new Error('cannot listen');
  console.log(`listening uws 127.0.0.1:${uWS.us_socket_local_port(listener)}`);
});
