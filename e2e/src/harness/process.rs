//! A child process whose output goes to a file and which never outlives its handle.

use std::ffi::OsString;
use std::fs::{self, OpenOptions};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use super::error::HarnessError;
use super::wait::eventually;

/// Lines of a log shown when something fails.
const TAIL_LINES: usize = 60;

/// What to run.
#[derive(Debug, Clone)]
pub struct Spec {
    /// Its name in messages.
    pub name: &'static str,
    /// The program.
    pub program: PathBuf,
    /// Its arguments.
    pub arguments: Vec<OsString>,
    /// Environment variables to add.
    pub environment: Vec<(String, OsString)>,
    /// Where standard output and standard error go; appended to.
    pub log: PathBuf,
}

/// A running child. Dropping it kills it; if the thread is panicking, the end of its log is shown.
#[derive(Debug)]
pub struct ManagedProcess {
    spec: Spec,
    child: Child,
}

impl ManagedProcess {
    /// Starts the program.
    ///
    /// # Errors
    /// The log cannot be opened or the program cannot be started.
    pub fn start(spec: Spec) -> Result<Self, HarnessError> {
        let doing = format!("opening the log of {}", spec.name);
        let log =
            OpenOptions::new().create(true).append(true).open(&spec.log).map_err(HarnessError::io(doing))?;
        let copy = log.try_clone().map_err(HarnessError::io("sharing a log"))?;
        let child = Command::new(&spec.program)
            .args(&spec.arguments)
            .envs(spec.environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(copy)
            .spawn()
            .map_err(HarnessError::io(format!("starting {}", spec.program.display())))?;
        Ok(Self { spec, child })
    }

    /// Its process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// How it can be started again.
    #[must_use]
    pub fn spec(&self) -> &Spec {
        &self.spec
    }

    /// How it ended, if it has.
    ///
    /// # Errors
    /// The system cannot say.
    pub fn exited(&mut self) -> Result<Option<ExitStatus>, HarnessError> {
        self.child.try_wait().map_err(HarnessError::io(format!("waiting for {}", self.spec.name)))
    }

    /// Fails with the end of its log if it is no longer running.
    ///
    /// # Errors
    /// It has ended.
    pub fn check_running(&mut self) -> Result<(), HarnessError> {
        match self.exited()? {
            None => Ok(()),
            Some(status) => Err(HarnessError::Program(format!(
                "{} ended early ({status}):\n{}",
                self.spec.name,
                self.log_tail()
            ))),
        }
    }

    /// Kills it (SIGKILL) and waits until it is gone.
    ///
    /// # Errors
    /// The system refuses.
    pub fn kill(&mut self) -> Result<(), HarnessError> {
        let doing = format!("killing {}", self.spec.name);
        self.child.kill().map_err(HarnessError::io(doing.clone()))?;
        self.child.wait().map(|_| ()).map_err(HarnessError::io(doing))
    }

    /// Asks it to end (SIGTERM) and returns at once.
    ///
    /// # Errors
    /// The signal could not be sent.
    pub fn terminate(&self) -> Result<(), HarnessError> {
        self.signal("TERM")
    }

    /// Sends it a signal by its name without `SIG`, and returns at once.
    ///
    /// # Errors
    /// The signal could not be sent.
    pub fn signal(&self, name: &str) -> Result<(), HarnessError> {
        let status = Command::new("sh")
            .arg("-c")
            .arg(format!("kill -{name} {}", self.child.id()))
            .status()
            .map_err(HarnessError::io("running sh"))?;
        if status.success() {
            return Ok(());
        }
        Err(HarnessError::Program(format!("{} could not be signalled", self.spec.name)))
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// It is still running at the deadline.
    pub async fn wait(&mut self, deadline: Duration) -> Result<ExitStatus, HarnessError> {
        let what = format!("{} ends", self.spec.name);
        let child = &mut self.child;
        eventually(&what, deadline, || std::future::ready(child.try_wait().ok().flatten())).await
    }

    /// Everything it wrote, in all its lives.
    #[must_use]
    pub fn log(&self) -> String {
        read_lossy(&self.spec.log)
    }

    /// The last lines it wrote.
    #[must_use]
    pub fn log_tail(&self) -> String {
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(TAIL_LINES)..].join("\n")
    }
}

impl Drop for ManagedProcess {
    fn drop(&mut self) {
        // Both fail only if it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("--- {} ---\n{}", self.spec.name, self.log_tail());
        }
    }
}

fn read_lossy(path: &Path) -> String {
    fs::read(path).map_or_else(
        |error| format!("(no log: {error})"),
        |bytes| String::from_utf8_lossy(&bytes).into_owned(),
    )
}
