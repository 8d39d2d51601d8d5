//! Readiness and the feed of changes.

use super::*;

impl Gateway {
    /// From outside of the program.
    async fn sql(&self, sql: &'static str) {
        let options = sqlx::sqlite::SqliteConnectOptions::new().filename(self.dir.path().join("caprock.db"));
        let mut connection = sqlx::ConnectOptions::connect(&options).await.unwrap();
        sqlx::raw_sql(sql).execute(&mut connection).await.unwrap();
    }

    /// Waits until it says that it can check credentials, or can't. A busy machine may let a lease lapse at any time.
    async fn until_credentials_are(&self, checkable: bool) {
        let said = async {
            while self.get("/readyz", None).await.json()["credentials"] != checkable {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        timeout(BOUND, said).await.expect("it says so");
    }

    async fn until_metrics_say(&self, line: &str) {
        let said = async {
            while !String::from_utf8_lossy(&self.ask_admin("/metrics", None).await.body).contains(line) {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        timeout(BOUND, said).await.expect(line);
    }
}

#[tokio::test]
async fn a_gateway_that_does_not_follow_changes_is_not_ready() {
    let gateway = Gateway::start().await;
    gateway.until_credentials_are(true).await;
    gateway.sql("ALTER TABLE audit_log RENAME TO elsewhere").await;
    gateway.until_credentials_are(false).await;
    gateway.until_metrics_say("caprock_changes_lease_valid 0").await;
    gateway.sql("ALTER TABLE elsewhere RENAME TO audit_log").await;
    gateway.until_credentials_are(true).await;
    gateway.until_metrics_say("caprock_changes_lease_valid 1").await;
}
