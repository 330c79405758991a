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
    assert!(is_production(None, None, &branches(&["master"]), "master")); // R005
    assert!(!is_production(None, None, &branches(&["master", "main"]), "master"));
    assert!(is_production(None, None, &branches(&[]), "main"));
}

// R005 R006
#[test]
fn a_branch_cannot_make_itself_the_production_branch_by_its_own_file() {
    let branches: Vec<String> = ["main", "feature"].map(str::to_owned).to_vec();
    let own = slipway_config::parse("slipway.yaml", "branches: { production: feature }\n").unwrap();
    assert!(!is_production(Some("main"), Some(&own), &branches, "feature"));
    assert!(is_production(Some("main"), Some(&own), &branches, "main"));
    // The production branch's own file names another one: from then on it is that.
    assert_eq!(production_by(Some(&own), &branches), "feature");
    // Only while none is known, or when it is gone, the file of the branch itself is asked.
    assert!(is_production(None, Some(&own), &branches, "feature"));
    assert!(is_production(Some("gone"), Some(&own), &branches, "feature"));
}

#[test]
fn another_projects_file_is_refused_with_the_place() {
    let project = ProjectName::parse("shop").unwrap();
    let config = slipway_config::parse("slipway.yaml", "project: other\n");
    let refusal = admit(&project, config).unwrap_err();
    assert!(refusal.0[0].contains("slipway.yaml:1 says project `other`, this is `shop`"), "{refusal:?}");
    assert!(admit(&project, Ok(Config::default())).is_ok());
}

#[test]
fn a_branch_has_a_name_that_can_be_shown_and_typed() {
    assert!(named("feature/ü-1").is_ok());
    for (bad, shown) in [("HEAD", "HEAD"), ("a\u{202e}b", "a\u{fffd}b")] {
        let refusal = named(bad).unwrap_err();
        assert!(refusal.0[0].starts_with(&format!("error: the name of branch `{shown}` ")), "{refusal:?}");
    }
}
