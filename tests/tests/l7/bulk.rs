//! 2 GiB up and down, with flat memory.

use super::support::Proxy;
use anyhow::{Result, ensure};
use weir_tests::l7::{HttpFiles, Site};

/// More than buffers of a few connections take; less than any part of what passes that would be kept.
const GROWTH: u64 = 24 << 20;

/// Minutes on a busy machine; of several limits curl takes the last.
const PATIENCE: &str = "--max-time 900";

fn proxy(listener: &str) -> Result<Proxy> {
    let files = Site::shared().files();
    let clusters = format!("  - {{ name: files, endpoints: [\"{}\"] }}", files.address);
    let routes = "
      - { match: { path: /2g }, cluster: files, timeouts: { request: 0s } }
      - { match: { path_prefix: /h2/ }, cluster: h2c, rewrite: { prefix: / }, timeouts: { request: 0s } }
      - { cluster: backend, timeouts: { request: 0s } }";
    Proxy::with_clusters(listener, routes, &clusters)
}

/// The daemon's memory grows by no more than buffers while this runs.
fn flat(proxy: &Proxy, what: &str, work: impl FnOnce() -> Result<()>) -> Result<()> {
    // The first request makes what every later one uses.
    proxy.get("/echo")?.expect(200)?;
    proxy.weir.forget_peak()?;
    let before = proxy.weir.memory()?;
    work()?;
    let grown = proxy.weir.peak_memory()?.saturating_sub(before);
    ensure!(grown < GROWTH, "{what}: memory grew by {grown} bytes");
    Ok(())
}

fn download(proxy: &Proxy, path: &str, version: &str) -> Result<()> {
    let finished = proxy
        .curl(path)
        .with(version)
        .with(PATIENCE)
        .with("--no-include --output /dev/null --write-out %{size_download}")
        .run()?;
    let size = finished.success()?;
    ensure!(size == HttpFiles::BIG.to_string(), "{size} bytes came");
    Ok(())
}

fn upload(proxy: &Proxy, path: &str, version: &str) -> Result<()> {
    // A sparse file of nginx's.
    let file = Site::shared().files().big_file();
    let answer = proxy
        .curl(path)
        .with(version)
        .with(PATIENCE)
        .with("--header Expect: --upload-file")
        .arg(&file.to_string_lossy())
        .answer()?;
    ensure!(answer.text() == format!("{}\n", HttpFiles::BIG), "{answer:?}");
    Ok(())
}

#[test]
fn two_gibibytes_come_down() -> Result<()> {
    let proxy = proxy("")?;
    flat(&proxy, "HTTP/1.1", || download(&proxy, "/2g", "--http1.1"))?;
    flat(&proxy, "HTTP/2", || {
        download(&proxy, "/2g", "--http2-prior-knowledge")
    })
}

#[test]
fn two_gibibytes_go_up() -> Result<()> {
    let proxy = proxy("")?;
    flat(&proxy, "HTTP/1.1", || upload(&proxy, "/sink", "--http1.1"))?;
    flat(&proxy, "HTTP/2 both ways", || {
        upload(&proxy, "/h2/sink", "--http2-prior-knowledge")
    })
}
