//! The release server as a child process: started, waited for, stopped.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use tempfile::TempDir;

use crate::process::Process;

/// What the server says before its address.
const ANNOUNCEMENT: &str = "listening on http://";

/// Between two looks at `/readyz`.
const POLL: Duration = Duration::from_millis(2);

const LONGEST_START: Duration = Duration::from_secs(60);

/// How to start it.
pub(crate) struct Launch {
    pub(crate) binary: PathBuf,
    pub(crate) models: PathBuf,
    pub(crate) onnxruntime: PathBuf,
    /// Backbones it must serve: one that refuses its models is ready soon and small.
    pub(crate) backbones: Vec<&'static str>,
    /// Arguments from our own command line, put last.
    pub(crate) further: Vec<String>,
}

/// A server that is ready. Dropping it ends the process.
pub(crate) struct Server {
    child: Child,
    pub(crate) address: SocketAddr,
    /// Between the start of the process and its first 200 of `/readyz`.
    pub(crate) ready_after: Duration,
    _data: Option<TempDir>,
}

impl Server {
    /// Starts the server on a free port and waits until it is ready.
    ///
    /// # Errors
    /// When the binary is missing, ends early, or is not ready in time.
    pub(crate) fn start(launch: &Launch, arguments: &[&str]) -> anyhow::Result<Self> {
        let data = tempfile::tempdir()?;
        let mut server = Self::start_in(launch, data.path(), arguments)?;
        server._data = Some(data);
        Ok(server)
    }

    /// The same on a data folder that outlives it.
    ///
    /// # Errors
    /// As [`Server::start`].
    pub(crate) fn start_in(launch: &Launch, data: &Path, arguments: &[&str]) -> anyhow::Result<Self> {
        let mut command = Command::new(&launch.binary);
        // Only what stands here decides how the server runs.
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("HEADSTART_") {
                command.env_remove(name);
            }
        }
        command.args(["serve", "--listen", "127.0.0.1:0", "--log", "error"]);
        command.arg("--models").arg(&launch.models).arg("--data").arg(data);
        command.arg("--onnxruntime").arg(&launch.onnxruntime);
        command.args(arguments).args(&launch.further);
        let started = Instant::now();
        let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().with_context(|| {
            format!("{} cannot be started; `make build` makes it", launch.binary.display())
        })?;
        let address = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut server = Self { child, address, ready_after: Duration::ZERO, _data: None };
        server.address = server.read_address()?;
        while !server.is_ready() {
            anyhow::ensure!(server.child.try_wait()?.is_none(), "the server ended before it was ready");
            anyhow::ensure!(
                started.elapsed() < LONGEST_START,
                "the server is not ready after {LONGEST_START:?}"
            );
            std::thread::sleep(POLL);
        }
        server.ready_after = started.elapsed();
        server.check_backbones(&launch.backbones)?;
        Ok(server)
    }

    pub(crate) fn process(&self) -> Process {
        Process::new(self.child.id())
    }

    fn is_ready(&self) -> bool {
        get(self.address, "/readyz").is_ok_and(|answer| answer.starts_with("HTTP/1.1 200"))
    }

    fn check_backbones(&self, ids: &[&str]) -> anyhow::Result<()> {
        let answer = get(self.address, "/v1/models")?;
        for id in ids {
            anyhow::ensure!(answer.contains(&format!("\"{id}\"")), "the server does not serve `{id}`");
        }
        Ok(())
    }

    fn read_address(&mut self) -> anyhow::Result<SocketAddr> {
        let output = self.child.stdout.take().context("the server has no output")?;
        let mut lines = BufReader::new(output);
        let mut line = String::new();
        lines.read_line(&mut line)?;
        let address =
            line.trim().strip_prefix(ANNOUNCEMENT).context("the server ended before it listened")?;
        let address = address.parse().with_context(|| format!("`{address}` is no address"))?;
        // A full pipe would stop a server that writes more.
        std::thread::spawn(move || std::io::copy(&mut lines, &mut std::io::sink()));
        Ok(address)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It keeps nothing worth a graceful end; an error means that it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The whole answer, head and body; on a connection of its own, so that no client need exist yet.
fn get(address: SocketAddr, path: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(address)?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}
