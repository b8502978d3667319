//! `/query`: one PromQL expression, as a chart or a table.
//!
//! The page is the same for everybody; its script reads the expression from the address (`g0.expr`, `g0.range_input`,
//! `g0.tab`, as links to Prometheus have them) and asks the API beside it.

use axum::response::Response;

use super::html::{Html, page};

pub(crate) async fn ask() -> Response {
    let mut body = Html::default();
    body.html(include_str!("query.html"));
    body.html("<script>").html(include_str!("query.js")).html("</script>");
    page("Query", Some("query"), &body)
}
