//! What operators write: a file of options, or a list of keys, of scopes, of secrets, of hosts and a URL below it.
#![no_main]

use headstart::auth::{ApiKey, normal_scopes};
use headstart::config::Config;
use headstart::options_file;
use headstart::webhooks::{Hosts, Secrets};
use libfuzzer_sys::fuzz_target;

fuzz_target!(init: headstart_fuzz::watch_panics(), |text: &str| {
    if let Ok(options) = options_file::parse(text)
        && let Ok(config) = Config::resolve(options)
    {
        let written = config.to_toml().expect("options are written");
        let again = options_file::parse(&written).expect("written options are read");
        Config::resolve(again).expect("written options are as good as those that were read");
    }
    let (first, rest) = text.split_once('\n').unwrap_or((text, ""));
    if let Ok(keys) = ApiKey::parse_list(first) {
        keys.iter().for_each(|key| assert!(normal_scopes(&key.scopes()).is_ok(), "{}", key.without_secret()));
    }
    let _ = (normal_scopes(first), Secrets::parse_list(first));
    if let Ok(hosts) = Hosts::parse(&first.split(',').map(str::to_owned).collect::<Vec<_>>()) {
        let _ = hosts.target(rest);
    }
});
