//! `--keep`: the demo's proxy stays up, with its admin API, and three things to try are printed.

use anyhow::Context;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::stage::{Folder, Stage};
use crate::adapters::Running;

/// Stays up until Ctrl-C.
pub async fn up(stage: &Stage, folder: &Folder) -> anyhow::Result<()> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.context("the admin port cannot be opened")?;
    let admin_addr = listener.local_addr()?;
    let router = farthing_admin::router(Running::parts(stage.proxy.clone(), None), &stage.proxy.config().admin);
    let stop = CancellationToken::new();
    let admin = farthing_admin::serve(listener, router, None, stop.clone().cancelled_owned());
    tokio::pin!(admin);
    eprintln!("{}", text(stage, folder, &admin_addr.to_string()));
    tokio::select! {
        served = &mut admin => return served.context("admin API"),
        interrupted = tokio::signal::ctrl_c() => interrupted.context("cannot wait for Ctrl-C")?,
    }
    stop.cancel();
    admin.await.context("admin API")
}

fn text(stage: &Stage, folder: &Folder, admin: &str) -> String {
    let (data, dir) = (stage.proxy.data_addr(), folder.path().display());
    // As it was called, so that the lines can be copied.
    let program = std::env::args().next().unwrap_or_else(|| "farthing".to_owned());
    let name = stage.names.first().map_or("", |name| &**name);
    format!(
        "\nThe proxy is up at http://{data}, its clock still runs {:.0} times as fast as yours. Three things to try:\n  \
         curl -si -H 'x-farthing-debug: 1' http://{data}/r/{name}/{name}/items/1     # twice: the second is a hit\n  \
         {program} status --admin http://{admin}\n  \
         {program} logs ls --log-dir {dir}/logs\n\
         Ctrl-C ends it; {dir} stays.",
        stage.clock.factor()
    )
}
