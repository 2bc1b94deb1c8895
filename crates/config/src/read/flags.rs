//! Command-line flags, laid over the file.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use farthing_types::Money;

use super::presets;
use super::prices::flat;
use super::resolve::Draft;
use super::section::{Document, best, show_text};
use super::values::{is_name, parse_base_url};
use crate::Mode;

/// What `farthing serve` takes from the command line; each overrides the file.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Flags {
    /// `PRESET`, `NAME=URL` or `PRESET=URL`.
    pub upstreams: Vec<String>,
    /// `DOLLARS` for every provider whose price is not known, or `NAME=DOLLARS`.
    pub prices: Vec<String>,
    /// The mode of all routes.
    pub mode: Option<Mode>,
    /// Address of the data port.
    pub listen: Option<SocketAddr>,
    /// Address of the admin port.
    pub admin: Option<SocketAddr>,
    /// Directory of the log.
    pub log_dir: Option<PathBuf>,
    /// Directory of the model store.
    pub models: Option<PathBuf>,
    /// The ONNX Runtime library.
    pub onnxruntime: Option<PathBuf>,
}

impl Flags {
    /// Adds the providers and overrides what concerns no route.
    pub(crate) fn apply(&self, doc: &Document<'_>, draft: &mut Draft) {
        for upstream in &self.upstreams {
            add_upstream(doc, draft, upstream);
        }
        for price in &self.prices {
            add_price(doc, draft, price);
        }
        let config = &mut draft.config;
        let set = |into: &mut SocketAddr, flag: Option<SocketAddr>| flag.into_iter().for_each(|addr| *into = addr);
        set(&mut config.data.addr, self.listen);
        set(&mut config.admin.addr, self.admin);
        if self.admin.is_some_and(|addr| !addr.ip().is_loopback()) && config.admin.is_open() {
            doc.flag(
                "--admin",
                "an address that can be reached from outside, and no token",
                "set admin.token in the file, or use 127.0.0.1",
            );
        }
        self.log_dir.iter().for_each(|dir| config.log.dir.clone_from(dir));
        self.models.iter().for_each(|dir| config.models.dir.clone_from(dir));
        if self.onnxruntime.is_some() {
            config.models.onnxruntime.clone_from(&self.onnxruntime);
        }
    }
}

fn add_upstream(doc: &Document<'_>, draft: &mut Draft, text: &str) {
    const FLAG: &str = "--upstream";
    let (name, url) = text.split_once('=').map_or((text, None), |(name, url)| (name, Some(url)));
    if !is_name(name) {
        doc.flag(FLAG, format!("\"{text}\""), "write a preset's name, or NAME=URL, such as geo=https://maps.example.com");
        return;
    }
    let name: Arc<str> = name.into();
    if draft.providers.contains_key(&name) {
        doc.flag(FLAG, format!("a second provider is called \"{name}\""), "give each its own name");
        return;
    }
    let mut provider = presets::start(&name);
    provider.provider.name = name.clone();
    match url.map(parse_base_url) {
        None => {}
        Some(Some(url)) => {
            provider.provider.base_url = url;
            provider.based = true;
        }
        Some(None) => {
            doc.flag(FLAG, show_text(text), "after `=` write a URL with http or https and a host, without query");
            return;
        }
    }
    if !provider.based {
        let preset = best(&name, presets::presets().map(|(name, _)| name).filter(|name| *name != "generic"));
        let url = format!("write {name}=URL");
        let remedy = preset.map_or_else(|| url.clone(), |preset| format!("did you mean \"{preset}\"? Else {url}"));
        doc.flag(FLAG, format!("no preset is called \"{name}\""), remedy);
        return;
    }
    draft.providers.insert(name, provider);
}

fn add_price(doc: &Document<'_>, draft: &mut Draft, text: &str) {
    const FLAG: &str = "--price";
    let (name, amount) = text.split_once('=').map_or((None, text), |(name, amount)| (Some(name), amount));
    let Some(price) = amount.parse::<Money>().ok().filter(|price| *price >= Money::ZERO) else {
        doc.flag(FLAG, format!("\"{text}\""), "write dollars per call, such as 0.002, or NAME=0.002");
        return;
    };
    match name {
        None => {
            for draft in draft.providers.values_mut().filter(|draft| draft.provider.prices.is_none()) {
                draft.provider.prices = Some(flat(price));
            }
        }
        Some(name) => match draft.providers.get_mut(name) {
            Some(draft) => draft.provider.prices = Some(flat(price)),
            None => doc.flag(FLAG, format!("no provider is called \"{name}\""), "name one of the upstreams"),
        },
    }
}
