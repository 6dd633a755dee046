//! The whole API on one page: every route, grouped by who may call it.

use std::sync::Arc;

use axum::Router;
use axum::extract::Request;
use axum::middleware::{from_fn_with_state, map_response};
use axum::response::Response;
use axum::routing::{get, post};
use utoipa_swagger_ui::SwaggerUi;

use crate::app::App;
use crate::auth::Scope;
use crate::http::error::ApiError;
use crate::http::routes::{health, hugging_face, models, tasks};
use crate::http::{layers, openapi};

/// Every route of the service.
pub fn router(app: Arc<App>) -> Router {
    let infer = tasks::routes(&app)
        .route("/hf/{model}", post(hugging_face::infer))
        // Work is refused while the server starts or stops; the lists below are not.
        .route_layer(from_fn_with_state(Arc::clone(&app), layers::ready))
        .route("/v1/models", get(models::list))
        .route("/v1/models/{id}", get(models::retrieve))
        .route_layer(from_fn_with_state((Arc::clone(&app), Scope::Infer), layers::authorise));

    let open = Router::new()
        .route("/livez", get(health::live))
        .route("/readyz", get(health::ready))
        .route("/metrics", get(health::metrics))
        .route("/openapi.json", get(openapi::serve));

    for (route, method) in openapi::operations() {
        app.metrics.register_route(&route, method);
    }
    Router::new()
        .merge(infer)
        .merge(open)
        .merge(SwaggerUi::new("/docs").config(utoipa_swagger_ui::Config::from("/openapi.json")))
        .fallback(no_route)
        .method_not_allowed_fallback(wrong_method)
        .layer(map_response(no_sniffing))
        .layer(from_fn_with_state(Arc::clone(&app), layers::observe))
        .with_state(app)
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
