use super::*;

async fn ask(client: &mut crate::tests::Client, count: usize) -> Vec<String> {
    let mut bodies = Vec::new();
    for _ in 0..count {
        bodies.push(client.get("/").await.body);
    }
    bodies
}

// R286
#[tokio::test]
async fn weights_are_met_exactly_and_changed_without_a_new_connection() {
    let world = World::new();
    let (old, new) = (Origin::start("old").await, Origin::start("new").await);
    world.route(&[(&old, 90), (&new, 10)]);
    let mut client = world.client().await;
    let bodies = ask(&mut client, 400).await;
    assert_eq!(tally(&bodies), HashMap::from([("old", 360), ("new", 40)]));
    // Spread evenly: every ten requests have one of the new release.
    for ten in bodies.chunks(10) {
        assert_eq!(tally(ten)["new"], 1);
    }
    world.route(&[(&old, 0), (&new, 100)]);
    assert_eq!(tally(&ask(&mut client, 100).await)["new"], 100);
}

// R290
#[tokio::test]
async fn an_all_at_once_switch_and_back_is_atomic_and_old_requests_finish() {
    let world = World::new();
    let (old, new) = (Origin::start("old").await, Origin::start("new").await);
    world.route(&[(&old, 1), (&new, 0)]);
    let mut slow = world.client().await;
    let slow = tokio::spawn(async move { slow.get("/slow").await });
    soon(old.arrived.acquire()).await.unwrap().forget();
    let mut client = world.client().await;
    for (to, weights) in [("new", (0, 1)), ("old", (1, 0)), ("new", (0, 1))] {
        world.route(&[(&old, weights.0), (&new, weights.1)]);
        assert_eq!(tally(&ask(&mut client, 20).await)[to], 20);
    }
    old.gate.add_permits(1);
    assert_eq!(soon(slow).await.unwrap().body, "old");
}

// R220 R286
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn changing_weights_and_instances_under_load_loses_nothing() {
    let world = World::new();
    let (old, new) = (Origin::start("old").await, Origin::start("new").await);
    world.route(&[(&old, 100), (&new, 0)]);
    let mut loads = Vec::new();
    for n in 0..8 {
        let mut client = world.client().await;
        loads.push(tokio::spawn(async move {
            for _ in 0..150 {
                let reply = match n % 2 {
                    0 => client.get("/").await,
                    _ => client.post("/echo", "body").await,
                };
                assert_eq!(reply.status, 200);
            }
        }));
    }
    for step in (0..=100).chain((0..=100).rev()).cycle() {
        world.route(&[(&old, 100 - step), (&new, step)]);
        tokio::task::yield_now().await;
        if loads.iter().all(|load| load.is_finished()) {
            break;
        }
    }
    for load in loads {
        load.await.unwrap();
    }
    let stats = world.stats();
    let total: u64 = stats.releases.iter().map(|r| r.total.requests).sum();
    assert_eq!(total, 8 * 150);
    assert_eq!(stats.releases.iter().map(|r| r.total.errors).sum::<u64>(), 0);
}

// R220 R272
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replacing_instances_under_load_loses_nothing_and_drained_ones_can_be_killed() {
    let world = World::new();
    let mut old = Origin::start("i0").await;
    world.route(&[(&old, 1)]);
    let mut loads = Vec::new();
    let stop = Arc::new(std::sync::atomic::AtomicBool::new(false));
    for n in 0..8 {
        let mut client = world.client().await;
        let stop = Arc::clone(&stop);
        loads.push(tokio::spawn(async move {
            let mut count = 0;
            while !stop.load(SeqCst) {
                let reply = match n % 2 {
                    0 => client.get("/").await,
                    _ => client.post("/echo", "body").await,
                };
                assert_eq!(reply.status, 200, "{}", reply.body);
                count += 1;
            }
            count
        }));
    }
    for n in 1..=20 {
        let new = Origin::start(&format!("i{n}")).await;
        world.route(&[(&old, 1), (&new, 1)]);
        soon(new.arrived.acquire()).await.unwrap().forget();
        world.route(&[(&new, 1)]);
        world.proxy.drain(&old.name);
        soon(world.proxy.drained(&old.name, PATIENCE)).await.unwrap();
        let after = old.requests();
        // Whoever is asked for it now would fail.
        world.connector.remove(&old.name);
        soon(new.arrived.acquire_many(8)).await.unwrap().forget();
        assert_eq!(old.requests(), after, "nothing after it was drained");
        old = new;
    }
    stop.store(true, SeqCst);
    let mut sent = 0;
    for load in loads {
        sent += load.await.unwrap();
    }
    let stats = world.stats();
    assert!(stats.releases.iter().all(|r| r.total.errors == 0 && r.connect_failures == 0));
    assert!(sent > 200, "{sent}");
}

// R223
#[tokio::test]
async fn an_instance_that_is_not_serving_never_gets_a_request() {
    let world = World::new();
    let (ready, other) = (Origin::start("ready").await, Origin::start("other").await);
    world.connector.set("ready", ready.address);
    world.connector.set("other", other.address);
    let mut one = release("r1", 1, &["ready", "other"]);
    one.backends[1].state = BackendState::Draining;
    let services = vec![service(vec![one])];
    world.proxy.apply(Table { services }).unwrap();
    let mut client = world.client().await;
    assert_eq!(tally(&ask(&mut client, 30).await)["ready"], 30);
    assert_eq!(other.requests(), 0);
}

#[tokio::test]
async fn a_release_without_a_ready_instance_leaves_its_share_to_the_others_with_weight() {
    let world = World::new();
    let (old, new) = (Origin::start("old").await, Origin::start("new").await);
    world.route(&[(&old, 50), (&new, 50)]);
    world.proxy.drain("new");
    let mut client = world.client().await;
    assert_eq!(tally(&ask(&mut client, 10).await)["old"], 10);
    world.route(&[(&old, 0), (&new, 50)]);
    let reply = client.get("/").await;
    assert_eq!(reply.status, 503, "weight 0 receives nothing, and drained stays drained");
}

#[tokio::test]
async fn instances_of_a_release_share_by_what_they_have_in_flight() {
    let world = World::new();
    let (a, b) = (Origin::start("a").await, Origin::start("b").await);
    world.connector.set("a", a.address);
    world.connector.set("b", b.address);
    let services = vec![service(vec![release("r1", 1, &["a", "b"])])];
    world.proxy.apply(Table { services }).unwrap();
    let mut client = world.client().await;
    assert_eq!(tally(&ask(&mut client, 40).await)["a"], 20);
    let mut slow = world.client().await;
    let slow = tokio::spawn(async move { slow.get("/slow").await });
    let busy = tokio::select! {
        permit = a.arrived.acquire_many(21) => { permit.unwrap().forget(); &a }
        permit = b.arrived.acquire_many(21) => { permit.unwrap().forget(); &b }
    };
    let bodies = ask(&mut client, 10).await;
    assert!(!bodies.contains(&busy.name), "{bodies:?}");
    busy.gate.add_permits(1);
    assert_eq!(soon(slow).await.unwrap().status, 200);
}

// R286
#[tokio::test]
async fn raising_the_weight_moves_clients_only_forward_and_each_stays_in_its_cohort() {
    let limits = Limits { trusted_proxies: vec!["127.0.0.0/8".parse().unwrap()], ..Limits::default() };
    let world = World::with(limits);
    let (old, new) = (Origin::start("old").await, Origin::start("new").await);
    world.connector.set("old", old.address);
    world.connector.set("new", new.address);
    let mut client = world.client().await;
    let mut before = vec!["old".to_owned(); 200];
    for weight in [0, 1000, 1000, 3000, 10_000] {
        let releases = vec![release("r1", 10_000 - weight, &["old"]), release("r2", weight, &["new"])];
        let mut api = service(releases);
        api.affinity = Affinity::Client;
        world.proxy.apply(Table { services: vec![api] }).unwrap();
        let mut now = Vec::new();
        for user in 0..200 {
            let mut request = get("/");
            let from = format!("10.0.{user}.7, 127.0.0.9").parse().unwrap();
            request.headers_mut().insert("x-forwarded-for", from);
            now.push(client.send(request).await.body);
        }
        for (was, is) in before.iter().zip(&now) {
            assert!(!(was == "new" && is == "old"), "moved back at {weight}");
        }
        let share = now.iter().filter(|name| *name == "new").count() as u32 * 50;
        assert!(share.abs_diff(weight) <= 600, "{share} of {weight}");
        before = now;
    }
}

#[tokio::test]
async fn a_port_serves_its_service_whatever_the_host_is() {
    let world = World::new();
    let origin = Origin::start("one").await;
    world.route(&[(&origin, 1)]);
    let port = listen(&world.proxy, Binding::Port(8080));
    let other = listen(&world.proxy, Binding::Port(9999));
    let asked = "GET / HTTP/1.1\r\nHost: whatever\r\nConnection: close\r\n\r\n";
    assert_eq!(status_of(&raw(port.local_addr(), asked).await), "200");
    assert_eq!(status_of(&raw(other.local_addr(), asked).await), "404");
    assert_eq!(status_of(&raw(world.address, asked).await), "404");
    // An HTTP/1.0 client need not say a host where there is no choice.
    let old = raw(port.local_addr(), "GET / HTTP/1.0\r\n\r\n").await;
    assert_eq!(status_of(&old), "200");
    let old = raw(world.address, "GET / HTTP/1.0\r\n\r\n").await;
    assert_eq!(status_of(&old), "400");
}

#[tokio::test]
async fn a_service_without_a_ready_instance_answers_503_and_says_which() {
    let world = World::new();
    world.route(&[]);
    let mut client = world.client().await;
    let reply = client.get("/").await;
    assert_eq!(reply.status, 503);
    assert_eq!(reply.headers["retry-after"], "1");
    let first = reply.body.lines().next().unwrap();
    assert_eq!(first, "no instance of api in production is ready");
    assert_eq!(reply.headers["cache-control"], "no-store");
    let stats = world.stats();
    assert_eq!((stats.unavailable, stats.releases.len()), (1, 0));
}

// R248
#[tokio::test]
async fn a_browser_gets_a_page_with_what_is_going_on() {
    let world = World::new();
    let mut api = service(vec![]);
    api.notice = Notice {
        text: "r4 is being <started>".into(),
        since: "2026-03-01T12:34:56Z".into(),
        command: "slipway why api".into(),
    };
    world.proxy.apply(Table { services: vec![api] }).unwrap();
    let mut client = world.client().await;
    let mut request = get("/");
    request.headers_mut().insert("accept", "text/html,*/*;q=0.8".parse().unwrap());
    let page = client.send(request).await;
    assert_eq!((page.status, page.headers["retry-after"].as_bytes()), (503, &b"1"[..]));
    assert_eq!(page.headers["content-type"], "text/html; charset=utf-8");
    assert_eq!(page.headers["cache-control"], "no-store");
    for part in
        ["no instance of api in production is ready", "r4 is being &lt;started&gt;", "12:34:56Z", "slipway why api"]
    {
        assert!(page.body.contains(part), "`{part}` is missing in {}", page.body);
    }
    let text = client.get("/").await;
    assert_eq!(text.headers["content-type"], "text/plain; charset=utf-8");
    let lines: Vec<&str> = text.body.lines().take(3).collect();
    let wanted = [
        "no instance of api in production is ready",
        "since 2026-03-01T12:34:56Z: r4 is being <started>",
        "explained by: slipway why api",
    ];
    assert_eq!(lines, wanted);
}

#[tokio::test]
async fn a_service_that_holds_answers_when_an_instance_becomes_ready() {
    let world = World::new();
    let origin = Origin::start("one").await;
    world.connector.set("one", origin.address);
    let mut api = service(vec![release("r1", 1, &[])]);
    api.hold_ms = 10_000;
    let table = Table { services: vec![api] };
    world.proxy.apply(table.clone()).unwrap();
    let mut client = world.client().await;
    let held = tokio::spawn(async move { client.post("/echo", "kept").await });
    soon(async {
        while world.stats().in_flight == 0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    let mut ready = table;
    ready.services[0].releases = vec![release("r1", 1, &["one"])];
    world.proxy.apply(ready.clone()).unwrap();
    assert_eq!(soon(held).await.unwrap().body, "kept");
    ready.services[0].releases = vec![release("r1", 1, &[])];
    ready.services[0].hold_ms = 20;
    world.proxy.apply(ready).unwrap();
    assert_eq!(world.client().await.get("/").await.status, 503);
}

#[test]
fn a_table_that_contradicts_itself_is_refused_and_says_where() {
    let other = ServiceKey { service: "web".to_owned(), ..key() };
    let table = |change: &dyn Fn(&mut Service)| {
        let mut web = service(vec![release("r1", 1, &["i2"])]);
        web.key = other.clone();
        web.hosts = vec!["web".to_owned()];
        web.ports = vec![];
        change(&mut web);
        let services = vec![service(vec![release("r1", 1, &["i1"])]), web];
        let table = Table { services };
        let json = serde_json::to_string(&table).unwrap();
        assert_eq!(serde_json::from_str::<Table>(&json).unwrap(), table);
        let proxy = Proxy::new(Limits::default(), Arc::new(TcpConnector::new()), 7);
        let outcome = proxy.apply(table);
        outcome.map_or_else(|error| error.to_string(), |()| "fine".to_owned())
    };
    assert_eq!(table(&|_| {}), "fine");
    type Case = (&'static dyn Fn(&mut Service), &'static str);
    let cases: [Case; 7] = [
        (
            &|web| web.hosts.push("API.localhost.".to_owned()),
            "host `API.localhost.` is claimed by `shop/production/api` and `shop/production/web`",
        ),
        (&|web| web.ports.push(8080), "port 8080 is claimed by `shop/production/api` and `shop/production/web`"),
        (&|web| web.hosts.push("a b".to_owned()), "`a b` of service `shop/production/web` is not a host name"),
        (&|web| web.key = key(), "service `shop/production/api` is listed twice"),
        (&|web| web.releases[0].backends[0].instance = "i1".to_owned(), "instance `i1` is listed twice"),
        (
            &|web| web.releases.push(release("r1", 1, &[])),
            "release `r1` is listed twice in service `shop/production/web`",
        ),
        (
            &|web| web.releases[0].weight = 10_001,
            "the weights of service `shop/production/web` add up to 10001, the limit is 10000",
        ),
    ];
    for (change, error) in cases {
        assert_eq!(table(change), error);
    }
}
