//! What an experiment names stays in the store, whoever tidies up there.

use farthing_config::{ExperimentConfig, VariantConfig};
use farthing_contract::bundle::disk::{read_named, remove_versions};
use farthing_experiment::Order;
use farthing_models::Kind;
use farthing_types::{Overrides, Time};

use crate::world::{World, bundle};

fn of_versions(versions: [u32; 2]) -> ExperimentConfig {
    let variant = |version: u32| VariantConfig {
        name: format!("v{version}").into(),
        share: 0.5,
        overrides: Overrides { model_version: Some(version), ..Overrides::default() },
    };
    ExperimentConfig {
        name: "which".into(),
        hypothesis: "the later is cheaper".into(),
        variants: versions.map(variant).into(),
        ..ExperimentConfig::default()
    }
}

#[tokio::test]
async fn a_version_that_an_experiment_names_is_not_removed_until_it_is_stopped() {
    let dir = tempfile::tempdir().unwrap();
    let made: Vec<u32> = (1..=4).map(|n| bundle(dir.path(), n as f32)).collect();
    assert_eq!(made, [1, 2, 3, 4]);
    let store = dir.path().join("models");
    let named = || read_named(&store).unwrap().versions(Kind::Ttl, Time::ZERO);
    for _restart in 0..2 {
        let world = World::new(dir.path(), 1, |config| config.experiments.push(of_versions([2, 3])));
        assert_eq!(named(), [2, 3].into());
        assert_eq!(remove_versions(&store, Kind::Ttl, &[2, 3], Time::ZERO).unwrap(), [] as [u32; 0]);
        world.inside.close().await;
        assert_eq!(named(), [2, 3].into(), "it goes on after the restart");
    }
    assert_eq!(remove_versions(&store, Kind::Ttl, &made, Time::ZERO).unwrap(), [1, 4]);
    let world = World::new(dir.path(), 1, |config| config.experiments.push(of_versions([2, 3])));
    world.inside.order_experiment("which", &Order::Stop, "it is over").unwrap();
    assert_eq!(named(), [].into());
    assert_eq!(remove_versions(&store, Kind::Ttl, &made, Time::ZERO).unwrap(), made);
}
