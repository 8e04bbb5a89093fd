//! Warnings about a certificate. The gate serves the certificate in spite of a warning.

use std::time::{Duration, SystemTime};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// The time before expiry from which a warning is logged. ACME clients usually renew 30 days before
/// expiry, so a renewal is then overdue.
const NEAR: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// A warning about a certificate. Each message is one line that says what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Warning {
    /// Every user of the machine can read the file with the private key.
    #[error(
        "every user of this machine can read the private key in {0}; remove that permission: \
         chmod o-rwx {0}"
    )]
    WorldReadable(String),
    /// The file lacks the intermediate certificate that issued the leaf.
    #[error(
        "an intermediate certificate is missing: {leaf} was issued by {issuer}, which is not in \
         the file, so many clients refuse to connect; append the intermediates that the authority \
         delivered: cat leaf.crt intermediate.crt main.key > cert.pem"
    )]
    Incomplete {
        /// The first name of the leaf.
        leaf: String,
        /// The name of the leaf's issuer.
        issuer: String,
    },
    /// The certificate has only a common name. Browsers ignore the common name: Chrome since
    /// version 58 and Firefox since version 48 read only the alternative names, because RFC 2818
    /// (2000) deprecated the common name.
    #[error(
        "the certificate of {name} has no subject alternative name, so browsers and many clients \
         refuse it, whatever its common name is; request a new one that has it, for example with \
         openssl req -addext subjectAltName={wanted}"
    )]
    NoAlternativeName {
        /// The first name of the certificate.
        name: String,
        /// The alternative name that a new certificate should have.
        wanted: String,
    },
    /// The certificate was signed with its own key.
    #[error(
        "the certificate of {0} is self-signed, so browsers refuse it unless each was told to \
         trust it: that is enough for a trial; for visitors, get one from an authority such as \
         Let's Encrypt"
    )]
    SelfSigned(String),
    /// A certificate of the chain expires soon.
    #[error("the certificate of {name} expires on {}, in {}; renew it", date(*.expires), days(*.left))]
    ExpiresSoon {
        /// The first name of the certificate.
        name: String,
        /// The time of expiry.
        expires: SystemTime,
        /// The time left until the certificate expires.
        left: Duration,
    },
    /// A certificate of the chain has expired.
    #[error("the certificate of {name} expired on {} and clients refuse it; renew it", date(*.expires))]
    Expired {
        /// The first name of the certificate.
        name: String,
        /// The time of expiry.
        expires: SystemTime,
    },
    /// The certificate is not valid yet.
    #[error(
        "the certificate of {name} is not valid before {}; is the clock of this machine right?",
        date(*.begins)
    )]
    NotYet {
        /// The first name of the certificate.
        name: String,
        /// The time from which the certificate is valid.
        begins: SystemTime,
    },
}

impl Warning {
    pub(super) fn world_readable(file: &std::path::Path) -> Self {
        Self::WorldReadable(crate::error::quoted(file))
    }

    /// The warning about a validity from `begins` to `expires`, if one is due at the time `now`.
    pub(super) fn about_time(
        name: &str,
        begins: SystemTime,
        expires: SystemTime,
        now: SystemTime,
    ) -> Option<Self> {
        let name = name.to_owned();
        match expires.duration_since(now) {
            Err(_) => Some(Self::Expired { name, expires }),
            Ok(left) if left.is_zero() => Some(Self::Expired { name, expires }),
            Ok(_) if begins > now => Some(Self::NotYet { name, begins }),
            Ok(left) if left <= NEAR => Some(Self::ExpiresSoon { name, expires, left }),
            Ok(_) => None,
        }
    }
}

/// The date of `time`, such as 2027-11-22.
pub(crate) fn date(time: SystemTime) -> String {
    // The last second of the year 9999. Neither this format nor a certificate can hold a later
    // date.
    let last = SystemTime::UNIX_EPOCH + Duration::from_secs(253_402_300_799);
    let mut text = humantime::format_rfc3339_seconds(time.min(last)).to_string();
    text.truncate("2027-11-22".len());
    text
}

pub(crate) fn days(time: Duration) -> String {
    match time.as_secs() / DAY.as_secs() {
        0 => "less than a day".to_owned(),
        1 => "1 day".to_owned(),
        days => format!("{days} days"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_thirty_days_are_near() {
        let expires = SystemTime::UNIX_EPOCH + 1_000 * DAY;
        let begins = expires - 100 * DAY;
        let words = |now| {
            Warning::about_time("shop", begins, expires, now)
                .map_or(String::new(), |w| w.to_string())
        };
        assert_eq!(words(expires - 31 * DAY), "");
        assert_eq!(
            words(expires - 30 * DAY),
            "the certificate of shop expires on 1972-09-27, in 30 days; renew it"
        );
        assert!(words(expires - DAY / 2).contains("in less than a day"));
        assert!(words(expires).contains("expired on 1972-09-27"));
        assert!(words(begins - DAY).contains("not valid before 1972-06-19"));
        assert_eq!(words(begins), "");
    }

    #[test]
    fn every_date_can_be_written() {
        assert_eq!(date(SystemTime::UNIX_EPOCH), "1970-01-01");
        assert_eq!(date(SystemTime::UNIX_EPOCH + 4_000_000 * DAY), "9999-12-31");
    }
}
