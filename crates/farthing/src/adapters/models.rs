//! The store of predictors behind the admin API.

use farthing_admin::{AliasState, ControlError, ModelDetail, ModelList, ModelVersion, ModelsControl};
use farthing_contract::bundle::BundleError;
use farthing_models::{Alias, AliasInfo, Kind, ModelsError, VersionInfo};

use super::Running;

impl ModelsControl for Running {
    fn list(&self, kind: Option<&str>) -> Result<ModelList, ControlError> {
        let wanted = kind.map(parse_kind).transpose()?;
        let store = self.proxy.models();
        let (versions, status) = (store.list().map_err(control)?, store.status());
        let keep = |kind: Kind| wanted.is_none_or(|wanted| wanted == kind);
        Ok(ModelList {
            library: status.library.map(|path| path.display().to_string()),
            versions: versions.into_iter().filter(|info| keep(info.kind)).map(version).collect(),
            aliases: status.aliases.into_iter().filter(|info| keep(info.kind)).map(alias_state).collect(),
            loaded: status.counts.built,
            freed: status.counts.freed,
        })
    }

    fn show(&self, kind: &str, number: u32) -> Result<ModelDetail, ControlError> {
        let (info, manifest) = self.proxy.models().show(parse_kind(kind)?, number).map_err(control)?;
        let manifest = serde_json::to_value(&manifest).map_err(|error| ControlError::Failed(error.to_string()))?;
        Ok(ModelDetail { version: version(info), manifest })
    }

    fn load(&self, kind: &str, number: u32) -> Result<ModelVersion, ControlError> {
        let kind = parse_kind(kind)?;
        self.proxy.models().load(kind, number).map_err(control)?;
        self.proxy.models().show(kind, number).map(|(info, _)| version(info)).map_err(control)
    }

    fn promote(&self, kind: &str, alias: &str, number: u32) -> Result<AliasState, ControlError> {
        let (kind, alias) = (parse_kind(kind)?, parse_alias(alias)?);
        self.proxy.models().promote(kind, number, alias, self.proxy.now()).map_err(control)?;
        self.alias(kind, alias)
    }

    fn rollback(&self, kind: &str, alias: &str) -> Result<AliasState, ControlError> {
        let (kind, alias) = (parse_kind(kind)?, parse_alias(alias)?);
        self.proxy.models().rollback(kind, alias, self.proxy.now()).map_err(control)?;
        self.alias(kind, alias)
    }
}

impl Running {
    fn alias(&self, kind: Kind, alias: Alias) -> Result<AliasState, ControlError> {
        let aliases = self.proxy.models().status().aliases;
        let found = aliases.into_iter().find(|info| (info.kind, info.alias) == (kind, alias));
        found.map(alias_state).ok_or_else(|| ControlError::Failed(format!("{kind} {alias} names nothing any more")))
    }
}

fn parse_kind(text: &str) -> Result<Kind, ControlError> {
    let known = || Kind::ALL.iter().map(|kind| kind.as_str()).collect::<Vec<_>>().join(", ");
    Kind::parse(text).ok_or_else(|| ControlError::NotFound(format!("no kind of predictor is called `{text}`; there are {}", known())))
}

fn parse_alias(text: &str) -> Result<Alias, ControlError> {
    let known = || Alias::ALL.iter().map(|alias| alias.as_str()).collect::<Vec<_>>().join(", ");
    Alias::parse(text).ok_or_else(|| ControlError::NotFound(format!("no alias is called `{text}`; there are {}", known())))
}

fn control(error: ModelsError) -> ControlError {
    let text = error.to_string();
    match error {
        ModelsError::Bundle(BundleError::NoVersion { .. }) => ControlError::NotFound(text),
        ModelsError::Bundle(BundleError::Refused { .. } | BundleError::NoTarget { .. }) => ControlError::Refused(text),
        ModelsError::LibraryNotFound { .. } | ModelsError::Library { .. } => ControlError::Unavailable(text),
        ModelsError::Bundle(_) => ControlError::Failed(text),
    }
}

fn version(info: VersionInfo) -> ModelVersion {
    ModelVersion {
        kind: info.kind.to_string(),
        version: info.version,
        digest: info.digest,
        aliases: info.aliases.iter().map(ToString::to_string).collect(),
        live: info.live,
        created_ns: info.created_ns,
        rows: info.rows,
        metrics: info.metrics,
        problem: info.problem,
    }
}

fn alias_state(info: AliasInfo) -> AliasState {
    AliasState {
        kind: info.kind.to_string(),
        alias: info.alias.to_string(),
        version: info.wanted.map(|target| target.version),
        live: info.live,
        engine: info.engine.map(ToOwned::to_owned),
        problem: info.problem,
    }
}
