//! `millrace doctor`: looks at a data folder that no process has open, or at a database and a Redis, and
//! changes nothing in them.

mod cluster;
mod log;
mod report;
mod snapshots;

use std::path::Path;
use std::sync::Arc;

use millrace_catalog::Catalog;
use millrace_kernel::Plan;
use millrace_store::CatalogStore;
use millrace_store_fjall::{Inspection, OpenError};

pub use cluster::{ClusterDoctorReport, ClusterQuestion, Finding, State};
pub use report::{Check, DoctorReport, Problem};

use super::Failure;
use crate::cli::DoctorArgs;
use crate::exit::Exit;
use crate::output::Printer;
use crate::serve::{self, ServeError};

/// The folder that is looked at unless another one is named.
const FOLDER: &str = ".millrace";

/// Bytes a start needs at once: each database gives its journal 64 MiB beforehand.
const ROOM: u64 = 128 << 20;

/// What to do about damage.
const RESTORE: &str = "restore the folder from a copy, or publish again into a new one";

/// Checks a folder, or a database and a Redis, and prints what was found.
///
/// # Errors
/// [`Failure::FolderUnsound`] and [`Failure::ClusterUnsound`] after the problems were printed,
/// [`Failure::Usage`] where both are named, [`Failure::Serve`] for settings that cannot be used.
pub async fn run(args: &DoctorArgs, printer: Printer) -> Result<Exit, Failure> {
    let folder = match (question(args)?, &args.data) {
        (None, data) => data.clone().unwrap_or_else(|| FOLDER.into()),
        (Some(question), None) => return cluster(&question, printer).await,
        (Some(_), Some(_)) => {
            return Err(Failure::Usage {
                message: "both a folder and a database are to be looked at".to_owned(),
                next: "leave out --data, or --cql (MILLRACE_CQL, cql.nodes)".to_owned(),
            });
        }
    };
    let report = examine(&folder).await;
    printer.print(&report)?;
    if report.clean {
        Ok(Exit::Done)
    } else {
        let problems = report.checks.iter().map(|check| check.problem_count).sum();
        Err(Failure::FolderUnsound { folder, problems })
    }
}

/// The database that is named, with what is expected of it; `None` where none is.
fn question(args: &DoctorArgs) -> Result<Option<ClusterQuestion>, ServeError> {
    let file = args.config.as_deref().map(serve::read_keys).transpose()?.unwrap_or_default();
    let cluster = args.cluster.clone().or(file.cluster);
    let slots = args.slots.or(file.slots);
    let name = cluster.as_deref().unwrap_or("millrace");
    let cql = args.cql.clone().or(file.cql).load(name, slots.unwrap_or_default())?;
    let Some(cql) = cql else { return Ok(None) };
    let redis = args.redis.clone().or(file.redis).load(name)?;
    Ok(Some(ClusterQuestion { cql, redis, cluster, slots }))
}

async fn cluster(question: &ClusterQuestion, printer: Printer) -> Result<Exit, Failure> {
    let report = cluster::examine(question).await;
    printer.print(&report)?;
    if report.clean {
        return Ok(Exit::Done);
    }
    let (keyspace, problems) = (report.keyspace.clone(), report.failed());
    Err(Failure::ClusterUnsound { keyspace, problems })
}

/// Checks a folder.
pub async fn examine(folder: &Path) -> DoctorReport {
    let mut checks = vec![room(folder)];
    let mut files = Check::new("folder");
    files.look();
    match Inspection::open(folder) {
        Ok(inspection) => {
            checks.push(files);
            let (catalogs, plan) = catalogs(&inspection).await;
            checks.push(catalogs);
            let slots = log::walk(&inspection, plan.catalog.version, &mut checks).await;
            checks.push(snapshots::heads(&inspection, &plan, &slots).await);
            checks.push(rows(&inspection));
        }
        Err(problems) => {
            for problem in &problems {
                files.problem("data folder", problem.to_string(), next_of(problem));
            }
            checks.push(files);
        }
    }
    DoctorReport::new(folder, checks)
}

fn next_of(error: &OpenError) -> &'static str {
    match error {
        OpenError::Locked { .. } => "stop the process that has it open, then look again",
        OpenError::OtherVersion { .. } => "look at it with the build that made it",
        OpenError::NotAFolder(_) | OpenError::NotADataFolder(_) => {
            "give the folder that `millrace dev --data` was given"
        }
        OpenError::Access { .. } => "let this user read it",
        OpenError::Damaged { .. } | OpenError::OtherSlots { .. } | OpenError::BadSlots(_) => {
            RESTORE
        }
    }
}

/// Room on the disk.
fn room(folder: &Path) -> Check {
    let mut check = Check::new("room");
    check.look();
    // A folder that cannot be asked is told by the next check.
    if let Ok(free) = millrace_store_fjall::free_bytes(folder)
        && free < ROOM
    {
        let problem = format!("{free} bytes are free, a start takes up to {ROOM}");
        check.problem("disk", problem, "make room on it");
    }
    check
}

/// Every catalog version, and the plan of the newest that compiles.
async fn catalogs(inspection: &Inspection) -> (Check, Plan) {
    let mut check = Check::new("catalogs");
    let mut newest = Catalog::empty();
    match inspection.store().catalogs().await {
        Ok(versions) => {
            for (version, text) in versions {
                check.look();
                let what = format!("catalog version {version}");
                if version != newest.version + 1 {
                    check.problem(&what, format!("follows version {}", newest.version), RESTORE);
                }
                match Catalog::compile(&text, (newest.version > 0).then_some(&newest)) {
                    Ok(catalog) => newest = catalog,
                    Err(problems) => {
                        let first = problems.first().map(ToString::to_string).unwrap_or_default();
                        let next = "look at it with the build that applied it";
                        check.problem(&what, format!("does not compile: {first}"), next);
                    }
                }
            }
        }
        Err(error) => check.error(&error, RESTORE),
    }
    (check, Plan::new(Arc::new(newest)))
}

/// Leases, runs and producer windows.
fn rows(inspection: &Inspection) -> Check {
    let mut check = Check::new("leases and windows");
    let (count, problems) = inspection.small_rows();
    check.looked_at = count;
    for problem in problems {
        check.error(&problem, RESTORE);
    }
    check
}
