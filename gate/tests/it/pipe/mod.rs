//! Compares the gate with its model, a plain TCP connection. The same script of writes, pauses,
//! ends and aborts runs on both. Both must agree on the bytes that each end receives and on how the
//! stream ends.
//!
//! Without an abort, both must agree completely. With an abort, timing decides how many of the
//! bytes in flight still arrive. The other side must get at least the bytes that had arrived
//! before, and must see the same kind of end. There is one exception: after an abort of the
//! *client*, the backend sees a proper end. Programs that send and disconnect before they have read
//! everything cause a reset, and it must not destroy the bytes that they sent.

mod end;
mod script;

use std::sync::Arc;

use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestRng, TestRunner};
use rustls::SupportedProtocolVersion;
use rustls::version::{TLS12, TLS13};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::runtime::Runtime;
use tokio_rustls::TlsConnector;

use crate::harness::{Gate, backend, name, noise, soon};
use end::{End, Ended};
use script::{Script, Side, play};

/// The number of scripts for each TLS version. One run takes some seconds.
const CASES: u32 = 60;

fn agree(version: &'static SupportedProtocolVersion, mut runner: TestRunner) {
    let runtime = Runtime::new().unwrap();
    let (listener, address) = runtime.block_on(backend());
    let gate = {
        let _inside = runtime.enter();
        Gate::start(address, &[])
    };
    let connector = TlsConnector::from(gate.pki.client(version));
    let bytes: [Arc<[u8]>; 2] = [1, 2].map(|seed| noise(seed, script::MOST).into());
    let end = |side: Side, socket, stream| {
        let (own, other) = (&bytes[side as usize], &bytes[side.other() as usize]);
        End::new(socket, stream, Arc::clone(own), Arc::clone(other))
    };

    let through_the_gate = async |script: &Script| {
        let tcp = TcpStream::connect(gate.address).await.unwrap();
        let socket = end::duplicate(&tcp);
        let mut client = connector.connect(name(), tcp).await.unwrap();
        let (mut server, _) = listener.accept().await.unwrap();
        // This byte shows that the gate has connected. Otherwise it could mistake a later abort for
        // a server that is down.
        server.write_all(b"!").await.unwrap();
        client.read_exact(&mut [0]).await.unwrap();
        let client = end(Side::Client, socket, Box::new(client));
        let server = end(Side::Backend, end::duplicate(&server), Box::new(server));
        play(script, [client, server]).await
    };
    let direct = async |script: &Script| {
        let (model, address) = backend().await;
        let client = TcpStream::connect(address).await.unwrap();
        let (server, _) = model.accept().await.unwrap();
        client.set_nodelay(true).unwrap();
        let client = end(Side::Client, end::duplicate(&client), Box::new(client));
        let server = end(Side::Backend, end::duplicate(&server), Box::new(server));
        play(script, [client, server]).await
    };

    let outcome = runner.run(&script::any(), |script| {
        let (gate, model) = runtime.block_on(async {
            tokio::join!(soon(through_the_gate(&script)), soon(direct(&script)))
        });
        for side in [Side::Client, Side::Backend] {
            let (gate, model) = (gate.of(side), model.of(side));
            compare(&script, side, gate, model).map_err(|fault| {
                TestCaseError::fail(format!("{fault}\n{side:?}\ngate:  {gate:?}\nmodel: {model:?}"))
            })?;
        }
        Ok(())
    });
    if let Err(error) = outcome {
        panic!("{error}");
    }
}

fn compare(script: &Script, side: Side, gate: &Ended, model: &Ended) -> Result<(), &'static str> {
    let Some(aborter) = script.aborter() else {
        let whole = Ended { heard: script.written_by(side.other()), reset: false, wrote: true };
        return match (*gate == whole, *model == whole) {
            (true, true) => Ok(()),
            (false, _) => Err("the gate lost something"),
            (_, false) => Err("the model lost something: the test is wrong"),
        };
    };
    if side == aborter {
        return Ok(());
    }
    let settled = script.settled_before_abort(aborter);
    if gate.heard < settled || model.heard < settled {
        return Err("what had arrived has vanished");
    }
    match script.ended_before_abort(aborter) {
        // The end of the stream had arrived before the reset.
        Some(true) if gate.reset || model.reset => Err("a reset after the end"),
        // The end may have arrived before or after the reset, so both results are right.
        Some(_) => Ok(()),
        None if !model.reset => Err("no reset in the model: the test is wrong"),
        None if aborter == Side::Client && gate.reset => Err("a client's abort is no plain end"),
        None if aborter == Side::Backend && !gate.reset => Err("an abort passes for an end"),
        None => Ok(()),
    }
}

fn config(cases: u32) -> Config {
    Config { cases, failure_persistence: None, ..Config::default() }
}

/// Runs the same scripts every time.
fn fixed() -> TestRunner {
    TestRunner::new_with_rng(config(CASES), TestRng::deterministic_rng(RngAlgorithm::ChaCha))
}

#[test]
fn tls_1_2_is_a_plain_pipe() {
    agree(&TLS12, fixed());
}

#[test]
fn tls_1_3_is_a_plain_pipe() {
    agree(&TLS13, fixed());
}

/// Runs new random scripts each time.
mod soak {
    use super::*;

    const MANY: u32 = 1_500;

    #[test]
    fn tls_1_2_is_a_plain_pipe() {
        agree(&TLS12, TestRunner::new(config(MANY)));
    }

    #[test]
    fn tls_1_3_is_a_plain_pipe() {
        agree(&TLS13, TestRunner::new(config(MANY)));
    }
}
