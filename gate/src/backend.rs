//! The plain server behind the gate.

use std::fmt;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use shared::deadline::within;
use tokio::net::TcpStream;

use crate::error::Error;
use crate::session;

/// Time to connect to one address. On one machine it takes microseconds; across a network the
/// kernel has sent three SYNs by then.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Where to forward to, and whether that works.
#[derive(Debug)]
pub(crate) struct Backend {
    addresses: Vec<SocketAddr>,
    /// Told once when it goes away and once when it is back, not once per client.
    unreachable: AtomicBool,
}

impl Backend {
    pub(crate) fn new(addresses: Vec<SocketAddr>) -> Self {
        Self { addresses, unreachable: AtomicBool::new(false) }
    }

    /// Connects to the first address that answers.
    ///
    /// # Errors
    /// [`Error::Backend`], naming every address and why it failed. Cancel safe.
    pub(crate) async fn connect(&self) -> Result<TcpStream, Error> {
        let mut failures = Vec::new();
        for address in &self.addresses {
            let failure =
                match within("connecting", CONNECT_TIMEOUT, TcpStream::connect(address)).await {
                    Ok(Ok(stream)) => {
                        self.tell_reachable();
                        session::set_options(&stream);
                        return Ok(stream);
                    }
                    Ok(Err(error)) => format!("{address}: {error}"),
                    Err(expired) => format!("{address}: {expired}"),
                };
            failures.push(failure);
        }
        let failures = failures.join("; ");
        self.tell_unreachable(&failures);
        Err(Error::Backend(failures))
    }

    fn tell_reachable(&self) {
        // Read first: the line of every connection need not be written to.
        if self.unreachable.load(Ordering::Relaxed)
            && self.unreachable.swap(false, Ordering::Relaxed)
        {
            tracing::info!("the backend {self} is back");
        }
    }

    fn tell_unreachable(&self, failures: &str) {
        if !self.unreachable.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                "cannot reach the backend ({failures}); clients are turned away until it answers: \
                 start the server there, or give gate its address"
            );
        }
    }
}

impl fmt::Display for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, address) in self.addresses.iter().enumerate() {
            let separator = if index == 0 { "" } else { ", else " };
            write!(f, "{separator}{address}")?;
        }
        Ok(())
    }
}
