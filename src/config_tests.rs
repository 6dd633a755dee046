//! Options: which wins, which are refused, and what is printed of them.

use super::*;

fn options(toml: &str) -> Options {
    toml::from_str(toml).unwrap()
}

fn refusal(toml: &str) -> String {
    Config::resolve(options(toml)).unwrap_err().to_string()
}

#[test]
fn what_is_given_wins_over_the_file_below_it() {
    let given = options("max_items = 5");
    let config = Config::resolve(given.or(options("max_items = 7\nqueue_items = 9"))).unwrap();
    assert_eq!((config.max_items, config.queue_items), (5, 9));
}

#[test]
fn a_value_out_of_range_is_named() {
    assert!(refusal("queue_items = 0\nmax_items = 0").contains("`queue-items`"));
}

#[test]
fn a_list_may_never_be_larger_than_the_queue() {
    assert_eq!(refusal("queue_items = 8"), "`max-items` is 2048; it must not exceed queue-items, 8");
}

#[test]
fn other_machines_are_not_served_without_keys_unless_told_so() {
    let open = |toml: &str| {
        let config = Config::resolve(options(toml)).unwrap();
        config.check_exposure(!config.api_keys.is_empty()).is_ok()
    };
    assert!(!open("listen = \"0.0.0.0:80\""));
    assert!(open("listen = \"0.0.0.0:80\"\nallow_unauthenticated = true"));
    assert!(open("listen = \"0.0.0.0:80\"\napi_keys = \"a:infer:secret-of-a\""));
    assert!(open("listen = \"[::1]:80\""));
}

#[test]
fn the_printed_configuration_is_a_file_of_options_without_the_secrets() {
    let secrets = "api_keys = \"team:infer+train:secret-of-team\"\n\
                   webhook_secret = \"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\"\n";
    let given = "models = [\"a\", \"b\"]\nonnxruntime = \"c.so\"\nlanes = 3\nlog_format = \"json\"\n\
                 webhook_hosts = [\"a.example.com\"]\nwebhook_url = \"https://a.example.com/\"\n";
    let text = Config::resolve(options(&format!("{secrets}{given}"))).unwrap().to_toml().unwrap();
    assert!(text.contains("# api_keys is set and not shown: team:infer+train\n"), "{text}");
    assert!(!text.contains("secret-of-team") && !text.contains("MfKQ"), "{text}");
    let again = Config::resolve(options(secrets).or(options(&text))).unwrap();
    assert_eq!(again.to_toml().unwrap(), text);
    let defaults = Config::resolve(Options::default()).unwrap().to_toml().unwrap();
    assert_eq!(Config::resolve(options(&defaults)).unwrap().to_toml().unwrap(), defaults);
    assert!(defaults.contains("\nlanes = "), "{defaults}");
}

#[test]
fn webhooks_go_to_hosts_of_the_list_and_are_signed() {
    let secret = "webhook_secret = \"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\"\n";
    assert!(refusal("webhook_hosts = [\"a.example.com\"]").contains("`webhook-secret`"));
    let other = "webhook_hosts = [\"a.example.com\"]\nwebhook_url = \"https://b.example.com/\"";
    assert!(refusal(&format!("{secret}{other}")).contains("`webhook-url` names the host `b.example.com`"));
    assert!(refusal("webhook_url = \"https://b.example.com/\"").contains("`webhook-url`"));
    let right =
        "webhook_hosts = [\"a.example.com\", \"[::1]:8000\"]\nwebhook_url = \"https://a.example.com/x\"";
    let printed = Config::resolve(options(&format!("{secret}{right}"))).unwrap().to_toml().unwrap();
    assert!(printed.contains("webhook_hosts = [\"a.example.com\", \"[::1]:8000\"]"), "{printed}");
    assert!(!printed.contains("MfKQ"), "{printed}");
}

#[test]
fn every_option_can_be_set_by_the_environment() {
    let known = known_variables();
    let printed = toml::to_string(&Config::resolve(Options::default()).unwrap()).unwrap();
    for key in printed.lines().filter_map(|line| line.split_once(" = ")).map(|(key, _)| key) {
        assert!(known.contains(&format!("{PREFIX}{}", key.to_uppercase())), "{key}");
    }
}
