//! The specification at the top level is the one the code declares.

#[test]
fn openapi_yaml_is_what_the_binary_prints() {
    let kept = include_str!("../../openapi.yaml");
    let printed = fewstep::http::openapi_yaml();
    assert!(
        kept == printed,
        "openapi.yaml is out of date: cargo run -- openapi > openapi.yaml"
    );
}
