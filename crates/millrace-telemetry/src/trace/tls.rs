//! TLS of the exporter, by the variables that OpenTelemetry names.

use std::path::PathBuf;

use opentelemetry_otlp::tonic_types::transport::{Certificate, ClientTlsConfig, Identity};

use super::TraceError;

/// The variables of the collector's authority, and of what is shown to it; each has one for traces
/// alone, which counts first.
const CERTIFICATE: [&str; 2] =
    ["OTEL_EXPORTER_OTLP_TRACES_CERTIFICATE", "OTEL_EXPORTER_OTLP_CERTIFICATE"];
const CLIENT_CERTIFICATE: [&str; 2] =
    ["OTEL_EXPORTER_OTLP_TRACES_CLIENT_CERTIFICATE", "OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE"];
const CLIENT_KEY: [&str; 2] =
    ["OTEL_EXPORTER_OTLP_TRACES_CLIENT_KEY", "OTEL_EXPORTER_OTLP_CLIENT_KEY"];

/// How a collector at this address is reached: `None` without TLS. Reads the files that the
/// variables name.
pub(super) fn config(
    url: &str,
    read: &impl Fn(&str) -> Option<String>,
) -> Result<Option<ClientTlsConfig>, TraceError> {
    if !url.trim_start().starts_with("https://") {
        return Ok(None);
    }
    let authority = file(CERTIFICATE, read)?.ok_or(TraceError::Authority)?;
    let tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(authority));
    match (file(CLIENT_CERTIFICATE, read)?, file(CLIENT_KEY, read)?) {
        (Some(chain), Some(key)) => Ok(Some(tls.identity(Identity::from_pem(chain, key)))),
        (None, None) => Ok(Some(tls)),
        (Some(_), None) | (None, Some(_)) => Err(TraceError::Pair),
    }
}

fn file(
    names: [&'static str; 2],
    read: &impl Fn(&str) -> Option<String>,
) -> Result<Option<Vec<u8>>, TraceError> {
    let stated = |name: &&'static str| Some((*name, read(name).filter(|path| !path.is_empty())?));
    let Some((variable, path)) = names.iter().find_map(stated) else { return Ok(None) };
    let path = PathBuf::from(path);
    match std::fs::read(&path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(source) => Err(TraceError::File { variable, path, source }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_named() {
        let of = |url: &str, set: &[(&str, &str)]| {
            let read = |name: &str| {
                set.iter().find(|(n, _)| *n == name).map(|(_, value)| (*value).to_owned())
            };
            config(url, &read).map(|tls| tls.is_some()).map_err(|error| error.to_string())
        };
        assert_eq!(of("http://127.0.0.1:4317", &[(CERTIFICATE[1], "nowhere")]), Ok(false));
        let error = of("https://collector:4317", &[]).unwrap_err();
        assert!(error.contains("OTEL_EXPORTER_OTLP_CERTIFICATE"), "{error}");
        let error = of("https://collector:4317", &[(CERTIFICATE[0], "nowhere")]).unwrap_err();
        assert!(error.contains(CERTIFICATE[0]) && error.contains("nowhere"), "{error}");
        // Any file that is there: the exporter reads what is in it.
        let here = concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml");
        assert_eq!(of("https://collector:4317", &[(CERTIFICATE[1], here)]), Ok(true));
        let one = [(CERTIFICATE[1], here), (CLIENT_KEY[1], here)];
        let error = of("https://collector:4317", &one).unwrap_err();
        assert!(error.contains("OTEL_EXPORTER_OTLP_CLIENT_KEY"), "{error}");
    }
}
