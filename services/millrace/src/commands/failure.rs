//! Why a command failed, with what to do next and the exit code.

use std::io;
use std::path::PathBuf;

use millrace_client::arrow::ArrowEncodeError;
use millrace_client::{ClientError, EndpointError, Refusal};
use millrace_grpc::ErrorCode;
use millrace_proto::convert::ConvertError;
use thiserror::Error;

use super::get::KeyArgumentError;
use crate::bench::BenchError;
use crate::demo::DemoError;
use crate::dev::DevError;
use crate::exit::Exit;
use crate::files::ReadError;
use crate::security::ClientSecurityError;
use crate::serve::ServeError;

/// Why a command failed.
#[derive(Debug, Error)]
pub enum Failure {
    /// Arguments that do not fit together.
    #[error("{message}")]
    Usage {
        /// What is wrong.
        message: String,
        /// What to do next.
        next: String,
    },
    /// An address that is none.
    #[error(transparent)]
    Endpoint(#[from] EndpointError),
    /// A certificate, key or token that cannot be used.
    #[error(transparent)]
    Security(#[from] ClientSecurityError),
    /// A catalog file that cannot be read.
    #[error("cannot read catalog {}", path.display())]
    CatalogFile {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A catalog with problems, which were shown.
    #[error("{} has {problems} {}", path.display(), if *problems == 1 { "error" } else { "errors" })]
    CatalogInvalid {
        /// The file.
        path: PathBuf,
        /// How many.
        problems: usize,
    },
    /// The server's catalog has something this version does not know.
    #[error("the server's catalog cannot be read by this version of millrace: {0}")]
    CatalogNotUnderstood(String),
    /// No such stream.
    #[error("the catalog has no stream called {stream:?}{}", listed(known))]
    UnknownStream {
        /// What was asked for.
        stream: String,
        /// What there is.
        known: Vec<String>,
    },
    /// No such view.
    #[error("the catalog has no view called {view:?}{}", listed(known))]
    UnknownView {
        /// What was asked for.
        view: String,
        /// What there is.
        known: Vec<String>,
    },
    /// No such kind of entity.
    #[error("the catalog has no entity called {kind:?}{}", listed(known))]
    UnknownKind {
        /// What was asked for.
        kind: String,
        /// What there is.
        known: Vec<String>,
    },
    /// An argument that is no key of the view's entities.
    #[error(transparent)]
    Key(#[from] KeyArgumentError),
    /// A file that cannot be read, or not on.
    #[error(transparent)]
    Read(#[from] Box<ReadError>),
    /// Rows that cannot be encoded.
    #[error("cannot encode rows")]
    Encode(#[from] ArrowEncodeError),
    /// A spine that cannot be used.
    #[error("cannot use the spine {path}: {reason}")]
    Spine {
        /// The file.
        path: String,
        /// Why.
        reason: String,
    },
    /// A training set that cannot be written.
    #[error("cannot write {}", path.display())]
    OutFile {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A call that did not succeed.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// A changelog that ended although it should go on.
    #[error("the changelog ended")]
    TailBroken {
        /// Where to go on; empty for the beginning asked for.
        cursor: String,
        /// Why.
        source: ClientError,
    },
    /// An answer this version does not understand.
    #[error("the server's answer cannot be read by this version of millrace")]
    Answer(#[from] ConvertError),
    /// A service that does not take calls, as `status` found.
    #[error("millrace does not serve")]
    NotServing,
    /// A data folder with problems, which were shown.
    #[error(
        "data folder {} has {problems} {}",
        folder.display(), if *problems == 1 { "problem" } else { "problems" }
    )]
    FolderUnsound {
        /// The folder.
        folder: PathBuf,
        /// How many.
        problems: u64,
    },
    /// A database or a Redis that is not as it must be, as was shown.
    #[error(
        "the database with keyspace {keyspace}, or the Redis beside it, has {problems} {}",
        if *problems == 1 { "problem" } else { "problems" }
    )]
    ClusterUnsound {
        /// The keyspace.
        keyspace: String,
        /// How many.
        problems: u64,
    },
    /// `millrace dev` did not start or did not go on.
    #[error(transparent)]
    Dev(#[from] DevError),
    /// A service that runs apart failed.
    #[error(transparent)]
    Serve(#[from] ServeError),
    /// A benchmark did not end.
    #[error(transparent)]
    Bench(#[from] BenchError),
    /// The demo did not end well.
    #[error(transparent)]
    Demo(#[from] DemoError),
    /// Standard output failed.
    #[error("cannot write to standard output")]
    Output(#[from] io::Error),
    /// The runtime could not start, or a thread of it died.
    #[error("cannot run: {0}")]
    Runtime(String),
}

impl From<ReadError> for Failure {
    fn from(error: ReadError) -> Self {
        Self::Read(Box::new(error))
    }
}

impl Failure {
    /// The exit code.
    #[must_use]
    pub fn exit(&self) -> Exit {
        match self {
            Self::Usage { .. } | Self::Endpoint(_) | Self::Security(_) | Self::Key(_) => {
                Exit::Usage
            }
            Self::Client(error) | Self::TailBroken { source: error, .. } => client_exit(error),
            Self::CatalogFile { .. }
            | Self::CatalogInvalid { .. }
            | Self::CatalogNotUnderstood(_)
            | Self::UnknownStream { .. }
            | Self::UnknownView { .. }
            | Self::UnknownKind { .. }
            | Self::Read(_)
            | Self::Encode(_)
            | Self::Spine { .. }
            | Self::OutFile { .. }
            | Self::Answer(_)
            | Self::NotServing
            | Self::FolderUnsound { .. }
            | Self::ClusterUnsound { .. }
            | Self::Dev(_)
            | Self::Serve(_)
            | Self::Bench(_)
            | Self::Demo(_)
            | Self::Output(_)
            | Self::Runtime(_) => Exit::Failed,
        }
    }

    /// What to do next, where there is something.
    #[must_use]
    pub fn next_step(&self) -> Option<String> {
        let step = match self {
            Self::Usage { next, .. } => next,
            Self::Security(_) => "check --ca, --cert, --key and --token, and their variables",
            Self::Endpoint(_) => "give an address such as --endpoint http://127.0.0.1:7400",
            Self::CatalogInvalid { .. } => "correct the errors above; nothing was applied",
            Self::CatalogNotUnderstood(_) | Self::Answer(_) => {
                "use the millrace of the server's version; `millrace status` shows it"
            }
            Self::UnknownStream { known, .. }
            | Self::UnknownView { known, .. }
            | Self::UnknownKind { known, .. } => match known.as_slice() {
                [] => "apply a catalog first: millrace apply catalog.yaml",
                _ => "use one of these, or add it to the catalog and apply that",
            },
            Self::Read(error) => return read_step(error).map(str::to_owned),
            Self::Client(error) => return client_step(error).map(str::to_owned),
            Self::Dev(error) => return error.next_step().map(str::to_owned),
            Self::Serve(error) => return error.next_step().map(str::to_owned),
            Self::TailBroken { cursor, .. } => {
                return Some(match cursor.as_str() {
                    "" => "run it again; nothing of the changelog was shown yet".to_owned(),
                    cursor => {
                        format!("go on with --from {cursor}: nothing is missed or comes twice")
                    }
                });
            }
            Self::Spine { .. } => "correct the spine; nothing was written",
            Self::OutFile { .. } => {
                "make room, or name another file with --out; nothing half written is left"
            }
            Self::NotServing => "wait, or see the server's log; the slots and services are above",
            Self::FolderUnsound { .. } | Self::ClusterUnsound { .. } => {
                "do what is said beside each problem above"
            }
            Self::CatalogFile { .. }
            | Self::Key(_)
            | Self::Encode(_)
            | Self::Bench(_)
            | Self::Demo(_)
            | Self::Output(_)
            | Self::Runtime(_) => return None,
        };
        Some(step.to_owned())
    }

    /// True when whoever read the output went away, as `head` does: no failure of the command.
    #[must_use]
    pub fn is_closed_output(&self) -> bool {
        matches!(self, Self::Output(error) if error.kind() == io::ErrorKind::BrokenPipe)
    }
}

fn client_exit(error: &ClientError) -> Exit {
    match error {
        ClientError::NotReachable { .. }
        | ClientError::Broken { .. }
        | ClientError::NotTrusted(_) => Exit::Unreachable,
        ClientError::Refused(refusal) => match refusal.code {
            Some(ErrorCode::NotServing | ErrorCode::ServerDraining | ErrorCode::HopNotTrusted) => {
                Exit::Unreachable
            }
            _ => Exit::Failed,
        },
        ClientError::DeadlineExceeded { .. }
        | ClientError::Protocol(_)
        | ClientError::InvalidBatch { .. }
        | ClientError::PublisherEnded => Exit::Failed,
    }
}

fn client_step(error: &ClientError) -> Option<&'static str> {
    match error {
        ClientError::NotReachable { .. } => Some(
            "start it with `millrace dev`, or say where it is with --endpoint or MILLRACE_ENDPOINT",
        ),
        ClientError::DeadlineExceeded { .. } => {
            Some("give it more time with --timeout, or ask for less at once")
        }
        ClientError::Broken { .. } => Some("run the command again: repeating it is safe"),
        ClientError::NotTrusted(error) => Some(error.problem.way_out()),
        ClientError::Protocol(_) => {
            Some("use the millrace of the server's version; `millrace status` shows it")
        }
        ClientError::Refused(refusal) => refusal_step(refusal),
        ClientError::InvalidBatch { .. } | ClientError::PublisherEnded => None,
    }
}

fn refusal_step(refusal: &Refusal) -> Option<&'static str> {
    match refusal.code? {
        ErrorCode::ViewNotFound | ErrorCode::FeatureNotFound => {
            Some("the catalog in force names the views and features; `millrace apply` changes it")
        }
        ErrorCode::CursorInvalid => {
            Some("begin anew: tail with --from start or now, late list without --cursor")
        }
        ErrorCode::KnownAtAhead => {
            Some("ask for an instant that has passed, or leave --known-at out")
        }
        ErrorCode::BeforeRetention => {
            Some("ask for the instant that the message names, or for features with shorter windows")
        }
        ErrorCode::ReadBudgetSpent => Some("ask for fewer keys or features, or a narrower window"),
        ErrorCode::Overloaded => Some("run the command again in a while: repeating it is safe"),
        ErrorCode::CatalogChanged => {
            Some("somebody else applied a catalog; look at the difference again")
        }
        ErrorCode::NotServing
        | ErrorCode::ServerDraining
        | ErrorCode::StreamAged
        | ErrorCode::StoreUnavailable => {
            Some("run the command again in a while; `millrace status` shows what is missing")
        }
        ErrorCode::HopNotTrusted => Some(
            "change what the message names on that server; then `millrace status` shows that all \
             serve",
        ),
        ErrorCode::StoreDamaged => Some(
            "stop the server and run `millrace doctor` on its data folder: it lists the damage",
        ),
        ErrorCode::StoreFailed | ErrorCode::Internal => Some("see the server's log"),
        ErrorCode::Unauthenticated => Some(
            "show a token with --token or MILLRACE_TOKEN, or a certificate with --cert and --key, \
             that the server knows",
        ),
        ErrorCode::PermissionDenied => {
            Some("use a credential with that role, or have it added to the server's access file")
        }
        ErrorCode::MethodNotFound | ErrorCode::ServiceNotFound => {
            Some("check the address: another service, or an older millrace, answers there")
        }
        ErrorCode::InvalidArgument
        | ErrorCode::MessageMalformed
        | ErrorCode::MessageTooLarge
        | ErrorCode::BatchInvalid
        | ErrorCode::CatalogInvalid
        | ErrorCode::CatalogVersionNotFound
        | ErrorCode::DeadlineExceeded => None,
    }
}

fn read_step(error: &ReadError) -> Option<&'static str> {
    match error {
        ReadError::Open { .. } => Some("check the path and its permissions"),
        ReadError::Io { .. } => Some(
            "repair or fetch the file again; what was sent before is counted once, so send it whole",
        ),
        ReadError::KnownAtBack { .. } => Some(
            "nothing of that row or after it was sent; sort the file by that field and import it again: \
             what was sent is counted once",
        ),
        ReadError::MissingColumns { .. } | ReadError::DuplicateColumn { .. } => {
            Some("nothing was sent; rename columns of the file, or fields of the catalog")
        }
        ReadError::Parquet { .. } => {
            Some("write it anew as Parquet with snappy, zstd or no compression")
        }
        ReadError::ColumnType { .. } | ReadError::NoHeader { .. } | ReadError::ParquetStdin => {
            Some("nothing was sent")
        }
    }
}

fn listed(known: &[String]) -> String {
    match known {
        [] => "; it is empty".to_owned(),
        known => format!("; it has {}", known.join(", ")),
    }
}
