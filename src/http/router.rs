//! The whole API on one page: every route, grouped by who may call it.

use std::sync::Arc;

use axum::Router;
use axum::extract::{DefaultBodyLimit, Request};
use axum::middleware::{from_fn, from_fn_with_state, map_response};
use axum::response::Response;
use axum::routing::{delete, get, post, put};
use tower::util::option_layer;
use utoipa_swagger_ui::SwaggerUi;

use crate::app::App;
use crate::auth::Scope;
use crate::http::error::ApiError;
use crate::http::routes::{
    audit, classifiers, events, examples, exports, files, health, hugging_face, hugging_face_rerank,
    inference, jobs, loading, models, pointers, purges, tasks,
};
use crate::http::{cors, layers, linger, openapi, stalled};

/// Every route of the service.
pub fn router(app: Arc<App>) -> Router {
    let infer = tasks::routes(&app)
        .route("/hf/{model}", post(hugging_face::infer))
        .route("/hf/{model}/rerank", post(hugging_face_rerank::rerank))
        .route("/v2/models/{model}/infer", post(inference::infer))
        .route("/v2/models/{model}/versions/{version}/infer", post(inference::infer_version))
        // Bodies are bounded by an option of their own.
        .layer(DefaultBodyLimit::disable())
        // Work is refused while the server starts or stops; the lists below are not.
        .route_layer(from_fn_with_state(Arc::clone(&app), layers::ready))
        .route("/v1/models", get(models::list))
        .route("/v1/models/{id}", get(models::retrieve))
        .route("/v2", get(inference::server))
        .route("/v2/models/stats", get(inference::statistics))
        .route("/v2/models/{model}/stats", get(inference::model_statistics))
        .route("/v2/models/{model}/versions/{version}/stats", get(inference::version_statistics))
        .route("/v2/models/{model}", get(inference::metadata))
        .route("/v2/models/{model}/ready", get(inference::model_ready))
        .route("/v2/models/{model}/config", get(inference::configuration))
        .route("/v2/models/{model}/versions/{version}", get(inference::metadata_of_version))
        .route("/v2/models/{model}/versions/{version}/ready", get(inference::version_ready))
        .route("/v2/models/{model}/versions/{version}/config", get(inference::configuration_of_version))
        .route_layer(from_fn_with_state((Arc::clone(&app), Scope::Infer), layers::authorise));

    let train = Router::new()
        // Uploads count their bytes themselves.
        .route("/v1/files", post(files::upload).layer(DefaultBodyLimit::disable()).get(files::list))
        .route("/v1/files/{file}", get(files::retrieve).delete(files::delete))
        .route("/v1/files/{file}/content", get(files::content))
        .route("/v1/fine_tuning/jobs", get(jobs::list).post(jobs::create))
        .route("/v1/fine_tuning/jobs/{job}", get(jobs::retrieve).delete(jobs::delete))
        .route("/v1/fine_tuning/jobs/{job}/events", get(events::events))
        .route("/v1/fine_tuning/jobs/{job}/checkpoints", get(events::checkpoints))
        .route("/v1/fine_tuning/jobs/{job}/report", get(jobs::report))
        .route("/v1/fine_tuning/jobs/{job}/cancel", post(jobs::cancel))
        .route("/v1/fine_tuning/jobs/{job}/pause", post(jobs::pause))
        .route("/v1/fine_tuning/jobs/{job}/resume", post(jobs::resume))
        .merge(registry(&app))
        .route_layer(from_fn_with_state((Arc::clone(&app), Scope::Train), layers::authorise));

    let admin = Router::new()
        .route("/v1/models/{id}/load", post(loading::load))
        .route("/v1/models/{id}/unload", post(loading::unload))
        .route("/v2/repository/models/{model}/load", post(inference::load))
        .route("/v2/repository/models/{model}/unload", post(inference::unload))
        .route_layer(from_fn_with_state(Arc::clone(&app), layers::ready))
        .route("/v2/repository/index", post(inference::index))
        .route("/v1/audit", get(audit::list))
        .route_layer(from_fn_with_state((Arc::clone(&app), Scope::Admin), layers::authorise));

    let open = Router::new()
        .route("/livez", get(health::live))
        .route("/readyz", get(health::ready))
        .route("/metrics", get(health::metrics))
        .route("/v2/health/live", get(inference::live))
        .route("/v2/health/ready", get(inference::ready))
        .route("/openapi.json", get(openapi::serve));

    for (route, method) in openapi::operations() {
        app.metrics.requests.register(&route, method);
    }
    // Else the pages would tell a public validator where this server is.
    let pages = utoipa_swagger_ui::Config::from("/openapi.json").validator_url("none");
    let pages_of_others = cors::layer(&app.config.cors_origins);
    Router::new()
        .merge(infer)
        .merge(train)
        .merge(admin)
        .merge(open)
        .merge(SwaggerUi::new("/docs").config(pages))
        .fallback(no_route)
        .method_not_allowed_fallback(wrong_method)
        .layer(map_response(no_sniffing))
        // Within the accounts, so that errors are for pages too and preflights are counted.
        .layer(option_layer(pages_of_others))
        .layer(from_fn_with_state(Arc::clone(&app), layers::observe))
        .layer(from_fn(stalled::end))
        .layer(from_fn(linger::read_on))
        .with_state(app)
}

/// Classifiers: what a change did is seen by the next request.
fn registry(app: &Arc<App>) -> Router<Arc<App>> {
    Router::new()
        // Pictures come as base64: bounded by the option that bounds every request's body.
        .route("/v1/classifiers", get(classifiers::list).post(examples::create))
        .route("/v1/classifiers/{name}/examples", post(examples::add))
        .route("/v1/classifiers/{name}/examples/forget", post(examples::forget))
        .route("/v1/classifiers/{name}", get(classifiers::retrieve).delete(classifiers::delete))
        .route("/v1/classifiers/{name}/rollback", post(pointers::rollback))
        .route("/v1/classifiers/{name}/traffic", put(pointers::traffic))
        .route("/v1/classifiers/{name}/shadow", put(pointers::set_shadow))
        .route(
            "/v1/classifiers/{name}/aliases/{alias}",
            put(pointers::set_alias).delete(pointers::delete_alias),
        )
        .route("/v1/classifiers/{name}/versions/{version}", delete(classifiers::delete_version))
        .route("/v1/classifiers/{name}/versions/{version}/promote", post(pointers::promote))
        .route("/v1/classifiers/{name}/versions/{version}/report", get(classifiers::report))
        .route("/v1/classifiers/{name}/versions/{version}/onnx", get(exports::onnx))
        .route("/v1/models/{id}", delete(classifiers::delete_model))
        // Versions change with the examples they hold.
        .route("/v1/purges", get(purges::list).post(purges::create))
        .route("/v1/purges/{purge}", get(purges::retrieve))
        .route_layer(from_fn_with_state(Arc::clone(app), layers::caught_up))
        .route_layer(from_fn_with_state(Arc::clone(app), layers::loaded_for_changes))
}

async fn no_route(request: Request) -> ApiError {
    ApiError::no_route(request.uri().path())
}

async fn wrong_method(request: Request) -> ApiError {
    ApiError::wrong_method(request.method().as_str(), request.uri().path())
}

/// Browsers must not guess a type other than the stated one.
async fn no_sniffing(mut response: Response) -> Response {
    let value = axum::http::HeaderValue::from_static("nosniff");
    response.headers_mut().insert(axum::http::header::X_CONTENT_TYPE_OPTIONS, value);
    response
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use headstart_tasks::{Task, TaskVisitor, visit_all};

    use crate::http::openapi;

    const METHODS: [&str; 5] = ["get", "post", "put", "delete", "patch"];

    /// Routes and methods as they stand in a file.
    fn written(source: &str) -> BTreeSet<(String, String)> {
        let calls = source.split(".route(").skip(1);
        let read = |call: &str| {
            let (_, behind) = call.split_once('"').expect("a path stands first");
            let (path, handlers) = behind.split_once('"').expect("a path ends");
            // Up to the parenthesis of the call itself.
            let mut depth = 1;
            let end = handlers.find(|sign| {
                depth += i32::from(sign == '(') - i32::from(sign == ')');
                depth == 0
            });
            let dense: String = handlers[..end.expect("the call ends")].split_whitespace().collect();
            let named = METHODS.into_iter().filter(|method| {
                [format!(",{method}("), format!(").{method}(")].iter().any(|name| dense.contains(name))
            });
            let methods: Vec<_> = named.map(|method| (path.to_owned(), method.to_uppercase())).collect();
            assert!(!methods.is_empty(), "`{path}` has no method that is known here");
            methods
        };
        calls.flat_map(read).collect()
    }

    /// The routes of tasks, which their own table makes.
    struct OfTasks(BTreeSet<(String, String)>);

    impl TaskVisitor for OfTasks {
        fn visit<T: Task>(&mut self) {
            self.0.insert((format!("/v1/{}", T::NAME), "POST".to_owned()));
        }
    }

    #[test]
    fn the_document_has_every_route_and_no_other() {
        let source = include_str!("router.rs");
        let (routes, _) = source.split_once("#[cfg(test)]").expect("these tests stand last");
        let mut tasks = OfTasks(written(routes));
        assert!(tasks.0.len() > 50, "the routes are read: {:?}", tasks.0);
        visit_all(&mut tasks);
        // Of the pages the first alone is described: their scripts and styles are no API.
        tasks.0.insert(("/docs/".to_owned(), "GET".to_owned()));
        let documented: BTreeSet<_> =
            openapi::operations().into_iter().map(|(path, method)| (path, method.to_owned())).collect();
        assert_eq!(tasks.0.difference(&documented).collect::<Vec<_>>(), Vec::<&(String, String)>::new());
        assert_eq!(documented.difference(&tasks.0).collect::<Vec<_>>(), Vec::<&(String, String)>::new());
    }

    #[test]
    fn routes_are_read_with_all_their_methods() {
        let text = r#".route("/a", post(a).layer(b()).get(c)).route(
            "/b/{id}",
            put(d).delete(e),
        )"#;
        let pairs = [("/a", "GET"), ("/a", "POST"), ("/b/{id}", "DELETE"), ("/b/{id}", "PUT")];
        let expected: BTreeSet<_> =
            pairs.iter().map(|(path, method)| ((*path).to_owned(), (*method).to_owned())).collect();
        assert_eq!(written(text), expected);
    }
}
