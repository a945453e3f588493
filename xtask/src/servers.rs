//! The real servers of the tests: Redis from Debian, Apache Cassandra from Maven Central, Jaeger from
//! its Go module.

mod jaeger;

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::command::{Failure, output, run, with_retries};
use crate::workspace::Workspace;

/// The pinned version of Cassandra.
const CASSANDRA: &str = "5.0.6";

/// Where the servers are.
#[derive(Debug, Clone)]
pub(crate) struct Servers {
    /// The folder with Cassandra's jars in `lib`.
    pub(crate) cassandra: PathBuf,
    /// The program of Jaeger.
    pub(crate) jaeger: PathBuf,
}

impl Servers {
    /// Where they are, or will be once [`Servers::install`] ran.
    pub(crate) fn of(workspace: &Workspace) -> Self {
        Self {
            cassandra: workspace.tools().join(format!("cassandra-{CASSANDRA}")),
            jaeger: workspace.tools().join(format!("jaeger-{}", jaeger::VERSION)).join("jaeger"),
        }
    }

    /// Tells a program that starts servers where they are.
    pub(crate) fn set_environment(&self, command: &mut Command) {
        command.env("MILLRACE_CASSANDRA", &self.cassandra).env("MILLRACE_JAEGER", &self.jaeger);
    }

    /// Installs what is missing and says so.
    ///
    /// # Errors
    ///
    /// When something is missing that only root can install, or a registry could not be reached
    /// after several tries.
    pub(crate) fn install(&self) -> Result<(), Failure> {
        if env::var_os("MILLRACE_REDIS_SERVER").is_some() {
            println!("redis-server: as MILLRACE_REDIS_SERVER says");
        } else {
            debian("redis-server", "redis-server", "or let MILLRACE_REDIS_SERVER name one")?;
        }
        debian("java", "default-jre-headless", "Java 17 or newer runs Cassandra")?;
        self.install_cassandra()
    }

    /// Builds Jaeger if it is missing, and says so: by itself, since it takes minutes.
    ///
    /// # Errors
    ///
    /// Without Go, or when the module proxy could not be reached after several tries.
    pub(crate) fn install_jaeger(&self) -> Result<(), Failure> {
        jaeger::install(&self.jaeger)
    }

    fn install_cassandra(&self) -> Result<(), Failure> {
        let (done, lib) = (self.cassandra.join("installed"), self.cassandra.join("lib"));
        if done.is_file() {
            println!("Cassandra {CASSANDRA}: there");
            return Ok(());
        }
        debian("mvn", "maven", "it fetches Cassandra's jars")?;
        println!("Cassandra {CASSANDRA}: installing into {}", self.cassandra.display());
        let write = |path: &Path, text: &str| {
            fs::write(path, text)
                .map_err(|cause| Failure::Other(format!("write {}: {cause}", path.display())))
        };
        fs::create_dir_all(&lib)
            .map_err(|cause| Failure::Other(format!("make {}: {cause}", lib.display())))?;
        write(&self.cassandra.join("pom.xml"), &pom())?;
        with_retries("fetch Cassandra", || {
            let mut maven = Command::new("mvn");
            maven.args(["-q", "-B", "dependency:copy-dependencies"]).current_dir(&self.cassandra);
            maven.arg(format!("-DoutputDirectory={}", lib.display()));
            run(&mut maven, "install Maven, which fetches Cassandra's jars")
        })?;
        write(&done, CASSANDRA)
    }
}

fn pom() -> String {
    format!(
        "<project xmlns=\"http://maven.apache.org/POM/4.0.0\">
  <modelVersion>4.0.0</modelVersion>
  <groupId>millrace</groupId>
  <artifactId>cassandra</artifactId>
  <version>1</version>
  <packaging>pom</packaging>
  <dependencies>
    <dependency>
      <groupId>org.apache.cassandra</groupId>
      <artifactId>cassandra-all</artifactId>
      <version>{CASSANDRA}</version>
    </dependency>
  </dependencies>
</project>
"
    )
}

/// Makes sure that a program is there, by a package of Debian where that may be installed: by root,
/// on a machine with apt.
pub(crate) fn debian(program: &str, package: &str, why: &str) -> Result<(), Failure> {
    if is_there(program) {
        println!("{program}: there");
        return Ok(());
    }
    if !is_root() || !is_there("apt-get") {
        let how = format!("install it (Debian: `apt-get install {package}` as root)");
        return Err(Failure::Other(format!("{program} is missing: {how}; {why}")));
    }
    println!("{program}: installing Debian's {package}");
    with_retries("install a package", || {
        let apt = |args: &[&str]| {
            let mut apt = Command::new("apt-get");
            apt.args(args).env("DEBIAN_FRONTEND", "noninteractive");
            // Tests start servers of their own: none is wanted beside them.
            apt.env("RUNLEVEL", "1");
            run(&mut apt, "install packages by hand")
        };
        apt(&["update", "-qq"])?;
        apt(&["install", "-y", "-qq", "--no-install-recommends", package])
    })?;
    match is_there(program) {
        true => Ok(()),
        false => Err(Failure::Other(format!("{package} was installed without a {program}"))),
    }
}

/// Whether this user may install packages and make systems.
pub(crate) fn is_root() -> bool {
    output(Command::new("id").arg("-u")).is_some_and(|id| id.trim() == "0")
}

/// Whether a program is on the path.
pub(crate) fn is_there(program: &str) -> bool {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path).any(|folder| folder.join(program).is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_found_on_the_path_and_others_are_not() {
        assert!(is_there("sh"));
        assert!(!is_there("no-such-program-of-millrace"));
        assert!(debian("sh", "no-such-package", "").is_ok());
    }

    #[test]
    fn the_project_names_the_pinned_version() {
        assert!(pom().contains("<version>5.0.6</version>"));
    }
}
