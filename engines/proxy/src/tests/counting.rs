use super::*;

// R253 R300
#[tokio::test]
async fn requests_errors_and_latencies_are_counted_per_release_and_pattern() {
    let world = World::new();
    let (old, new) = (Origin::start("old").await, Origin::start("new").await);
    world.route(&[(&old, 1), (&new, 1)]);
    let mut client = world.client().await;
    for n in 0..10 {
        client.get(&format!("/orders/{n}?secret=1")).await;
        client.get(&format!("/orders/{n}")).await;
    }
    client.post("/status/503", "").await;
    client.post("/status/503", "").await;
    client.get("/status/404").await;
    client.get("/status/404").await;
    let stats = world.stats();
    for id in ["r-old", "r-new"] {
        let release = stats.release(id).unwrap();
        assert_eq!((release.total.requests, release.total.errors), (12, 1));
        assert_eq!(release.statuses, [0, 10, 0, 1, 1]);
        assert_eq!(release.total.latencies.count(), 12);
        assert!(release.total.latencies.p99() < Some(PATIENCE));
        let orders = release.path("GET", "/orders/:id").unwrap();
        assert_eq!((orders.requests, orders.errors), (10, 0));
        let status = release.path("POST", "/status/:id").unwrap();
        assert_eq!((status.requests, status.errors), (1, 1));
        assert_eq!(release.path("*", "*").unwrap().requests, 1, "made-up paths");
    }
    let json = serde_json::to_string(&stats).unwrap();
    assert_eq!(serde_json::from_str::<Stats>(&json).unwrap(), stats);
}

// R300
#[tokio::test]
async fn one_bad_url_among_many_is_told_from_the_noise_by_its_exact_path() {
    let world = World::new();
    let (old, new) = (Origin::start("old").await, Origin::start("new").await);
    world.route(&[(&old, 1), (&new, 1)]);
    let mut client = world.client().await;
    for round in 0..4 {
        for item in 0..50 {
            let path = match item {
                17 => "/items/bad-in-new".to_owned(),
                n => format!("/items/{n}"),
            };
            // Twice, so that each release gets each; and 2 % noise in both.
            for _ in 0..2 {
                let mut request = get(&path);
                if item == round {
                    request.headers_mut().insert("noise", "1".parse().unwrap());
                }
                client.send(request).await;
            }
        }
    }
    let stats = world.stats();
    let totals: Vec<_> = (stats.releases.iter()).map(|r| (r.total.requests, r.total.errors)).collect();
    assert_eq!(totals, [(200, 4), (200, 8)]);
    let worst = &stats.suspects[0];
    assert_eq!((&*worst.method, &*worst.path), ("GET", "/items/bad-in-new"));
    let find = |id: &str| worst.releases.iter().find(|r| r.release == id).unwrap();
    assert_eq!((find("r-new").ok, find("r-new").failed), (0, 4));
    assert!(find("r-old").ok >= 3 && find("r-old").failed == 0);
    for noise in &stats.suspects[1..] {
        assert!(noise.releases.iter().all(|r| r.failed == 1), "{noise:?}");
    }
    assert_eq!(stats.suspects.len(), 5);
}

#[tokio::test]
async fn failures_leave_samples_without_secrets() {
    let world = World::new();
    let origin = Origin::start("one").await;
    world.route(&[(&origin, 1)]);
    let mut client = world.client().await;
    let mut request = get("/status/500?token=hidden");
    for (name, value) in [
        ("authorization", "Bearer hidden"),
        ("cookie", "session=hidden"),
        ("referer", "http://a/b?token=hidden"),
        ("user-agent", "test"),
        ("x-api-key", "hidden"),
        ("x-request-id", "id-1"),
    ] {
        request.headers_mut().insert(name, value.parse().unwrap());
    }
    client.send(request).await;
    for _ in 0..30 {
        client.get("/status/502").await;
        client.get("/").await;
    }
    assert_eq!(world.proxy.samples(&key(), "r-one").len(), 20);
    let world = World::new();
    world.route(&[(&origin, 1)]);
    let mut client = world.client().await;
    let mut request = get("/status/500?token=hidden");
    request.headers_mut().extend(origin.seen.lock().unwrap()[0].headers.clone());
    client.send(request).await;
    let samples = world.proxy.samples(&key(), "r-one");
    let json = serde_json::to_string(&samples).unwrap();
    assert!(!json.contains("hidden"), "{json}");
    let [sample] = samples.as_slice() else { panic!("{samples:?}") };
    assert_eq!((&*sample.method, &*sample.path, sample.status), ("GET", "/status/500", 500));
    assert_eq!((&*sample.instance, &*sample.body), ("one", "one"));
    assert_eq!((sample.failure, &*sample.request_id), (FailureKind::Status, "id-1"));
    let shown = &sample.request_headers;
    let pair = |a: &str, b: &str| (a.to_owned(), b.to_owned());
    assert!(shown.contains(&pair("authorization", "****")), "{shown:?}");
    assert!(shown.contains(&pair("referer", "http://a/b")), "{shown:?}");
}

#[tokio::test]
async fn a_client_that_goes_away_is_not_an_error_of_the_release() {
    let world = World::new();
    let origin = Origin::start("one").await;
    world.route(&[(&origin, 1)]);
    let mut changes = world.proxy.changes();
    let mut client = world.client().await;
    let slow = tokio::spawn(async move { client.try_send(get("/slow")).await });
    soon(origin.arrived.acquire()).await.unwrap().forget();
    slow.abort();
    assert_eq!(soon(changes.next()).await, [key()]);
    let stats = world.stats();
    let release = &stats.releases[0];
    assert_eq!((release.client_aborts, release.total.requests), (1, 0));
    assert_eq!((stats.in_flight, world.proxy.in_flight("one")), (0, 0));
}

#[tokio::test]
async fn a_watcher_learns_of_a_request_before_long_and_of_many_at_once() {
    let world = World::new();
    let origin = Origin::start("one").await;
    world.route(&[(&origin, 1)]);
    let mut changes = world.proxy.changes();
    let mut other = world.proxy.changes();
    {
        let mut quiet = std::pin::pin!(changes.next());
        assert!(futures::poll!(quiet.as_mut()).is_pending());
    }
    let mut client = world.client().await;
    client.get("/").await;
    // Counted before the client has its answer: no waiting at all.
    assert_eq!(futures::poll!(std::pin::pin!(changes.next())), std::task::Poll::Ready(vec![key()]));
    assert_eq!(world.stats().releases[0].total.requests, 1);
    for _ in 0..20 {
        client.get("/").await;
    }
    let before = std::time::Instant::now();
    assert_eq!(soon(changes.next()).await, [key()]);
    assert!(before.elapsed() < Duration::from_millis(200));
    assert_eq!(world.stats().releases[0].total.requests, 21);
    let mut quiet = std::pin::pin!(changes.next());
    assert!(futures::poll!(quiet.as_mut()).is_pending());
    assert_eq!(soon(other.next()).await, [key()]);
}

#[tokio::test]
async fn the_access_hook_gets_one_record_per_request() {
    let world = World::new();
    let records = Arc::new(Mutex::new(Vec::new()));
    let kept = Arc::clone(&records);
    let hook = move |r: &AccessRecord<'_>| {
        let who = format!("{}/{}/{} {} {}", r.project, r.environment, r.service, r.release, r.instance);
        let what = format!("{} {} {} {}", r.method, r.path, r.status, r.bytes);
        kept.lock().unwrap().push(format!("{who} {what} {}", r.request_id.len()));
    };
    assert!(world.proxy.set_access_hook(Box::new(hook)));
    let origin = Origin::start("one").await;
    world.route(&[(&origin, 1)]);
    let mut client = world.client().await;
    client.get("/a?b=c").await;
    let mut request = get("/x");
    request.headers_mut().insert("host", "nobody".parse().unwrap());
    client.send(request).await;
    world.proxy.drain("one");
    client.get("/b").await;
    assert_eq!(
        *records.lock().unwrap(),
        [
            "shop/production/api r-one one GET /a 200 3 32",
            "//   GET /x 404 0 0",
            "shop/production/api   GET /b 503 83 32",
        ]
    );
}

#[tokio::test]
async fn counters_go_on_over_tables_and_the_oldest_releases_give_way() {
    let world = World::new();
    let origin = Origin::start("one").await;
    world.connector.set("one", origin.address);
    let mut client = world.client().await;
    for n in 0..20 {
        let id = format!("r{n}");
        let services = vec![service(vec![release("stable", 0, &[]), release(&id, 1, &["one"])])];
        world.proxy.apply(Table { services }).unwrap();
        client.get("/").await;
    }
    let stats = world.stats();
    assert_eq!(stats.releases.len(), 16);
    assert_eq!(stats.releases[0].release, "stable", "routed ones stay");
    assert_eq!(stats.release("r19").unwrap().total.requests, 1);
    assert_eq!(stats.release("r0"), None);
}
