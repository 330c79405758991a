use crate::decide::*;
use slipway_config::Config;
use slipway_model::ProjectName;

#[test]
fn a_message_or_an_option_skips() {
    assert!(skip("fix typo [ci skip]", &[]).is_some()); // R011
    assert!(skip("Fix typo [Skip CI]\n\nbody", &[]).is_some());
    assert!(skip("fix", &["ci.skip".into()]).is_some());
    assert_eq!(skip("ci skip", &[]), None);
}

#[test]
fn fixes_come_from_options_and_trailers_and_need_seven_digits() {
    let message = "Mend\n\nSlipway-Fixes: 1F3C9AB\nSlipway-Fixes: 12\n";
    assert_eq!(fixes(message, &["fixes=abcdef0".into()]), ["abcdef0", "1f3c9ab"]);
}

#[test]
fn master_is_production_only_where_there_is_no_main() {
    let branches = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    assert!(is_production(None, &branches(&["master"]), "master")); // R005
    assert!(!is_production(None, &branches(&["master", "main"]), "master"));
    assert!(is_production(None, &branches(&[]), "main"));
}

#[test]
fn another_projects_file_is_refused_with_the_place() {
    let project = ProjectName::parse("shop").unwrap();
    let config = slipway_config::parse("slipway.yaml", "project: other\n");
    let refusal = admit(&project, config).unwrap_err();
    assert!(refusal.0[0].contains("slipway.yaml:1 says project `other`, this is `shop`"), "{refusal:?}");
    assert!(admit(&project, Ok(Config::default())).is_ok());
}
