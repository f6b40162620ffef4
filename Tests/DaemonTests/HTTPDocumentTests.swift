// What the documents of the HTTP listener tell.

import Foundation
import Testing
import TestSupport

@Suite(.timed) struct HTTPDocumentTests {
    @Test("stats.json tells figures, requests, refusals and latencies")
    func stats() throws {
        let http = try HTTPDaemon()
        defer { http.end() }
        let client = try http.daemon.frames()
        _ = try client.alloc("a/b", size: 1000)
        _ = try client.alloc("", size: 10)
        for _ in 0..<10 { #expect(try client.call("ping").status == 0) }
        _ = try client.call("read", name: "nothing", size: 1)
        // The turn that answered the last one is over.
        #expect(
            eventually {
                let stats = (try? http.get("/stats.json").json) ?? [:]
                let latency = stats["latency"] as? [String: [String: Double]] ?? [:]
                return latency["read"]?["count"] == 1
            })
        let stats = try http.get("/stats.json").json
        #expect(stats["version"] as? String == "0.1.0")
        #expect(abs((stats["time"] as? Double ?? 0) - Date().timeIntervalSince1970) < 60)
        let allocations = try #require(stats["allocations"] as? [String: Int])
        #expect(allocations == ["named": 1, "anonymous": 1])
        let memory = try #require(stats["memory"] as? [String: Int])
        #expect(Set(memory.keys) == ["limit", "allocated", "resident", "warm", "held"])
        #expect(memory["resident"] ?? 0 > 1 << 20 && memory["allocated"] ?? 0 > 1000)
        let connections = try #require(stats["connections"] as? [String: Int])
        #expect(connections["now"] == 1 && connections["total"] ?? 0 >= 1)
        let requests = try #require(stats["requests"] as? [String: Int])
        #expect(requests["ping"] ?? 0 >= 10 && requests["alloc"] == 2 && requests["read"] == 1)
        #expect(stats["refusals"] as? [String: Int] == ["noData": 1])
        let latency = try #require(stats["latency"] as? [String: [String: Double]])
        let ping = try #require(latency["ping"])
        #expect(Set(ping.keys) == ["count", "sum", "p50", "p99", "p999"])
        #expect(ping["p50"] ?? 0 > 0 && ping["p50"] ?? 0 <= ping["p999"] ?? 0)
        let wire = try http.daemon.text().stats()
        #expect(Set((stats["stats"] as? [String: Any] ?? [:]).keys) == Set(wire.keys))
    }

    @Test("namespaces and allocations are told in their order, within their limits")
    func allocations() throws {
        let http = try HTTPDaemon()
        defer { http.end() }
        let text = try http.daemon.text()
        for (name, size) in [("a/1", 100), ("a/2", 50), ("b/1", 120), ("plain", 7), ("c/x/y", 1)] {
            #expect(try text.ask("alloc \(name) \(size)") == "OK")
        }
        #expect(try text.ask("alloc doubles 10 Double") == "OK")
        let found = try http.get("/namespaces.json").json
        let namespaces = try #require(found["namespaces"] as? [[String: Any]])
        #expect(namespaces.map { $0["name"] as? String } == ["a", "b", "c"])
        #expect(namespaces.map { $0["bytes"] as? Int } == [150, 120, 1])
        #expect(namespaces.map { $0["count"] as? Int } == [2, 1, 1])
        #expect(found["other"] as? [String: Int] == ["count": 2, "bytes": 87])
        let all = try http.get("/allocations.json?sort=size&limit=3").json
        let largest = try #require(all["allocations"] as? [[String: Any]])
        #expect(largest.map { $0["name"] as? String } == ["b/1", "a/1", "doubles"])
        #expect(largest.map { $0["bytes"] as? Int } == [120, 100, 80])
        #expect(largest[2]["length"] as? Int == 10 && largest[2]["type"] as? String == "Double")
        #expect(largest[0]["owner"] as? Int == Int(getuid()))
        #expect(all["total"] as? Int == 6 && all["more"] as? Bool == true)
        let some = try http.get("/allocations.json?prefix=a/").json
        #expect((some["allocations"] as? [Any])?.count == 2)
        #expect(some["total"] as? Int == 2 && some["more"] as? Bool == false)
    }

    @Test("the oldest come first where it is asked for")
    func ages() throws {
        let http = try HTTPDaemon()
        defer { http.end() }
        let text = try http.daemon.text()
        #expect(try text.ask("alloc old 1") == "OK")
        usleep(2_100_000)
        #expect(try text.ask("alloc young 1000") == "OK")
        let found = try http.get("/allocations.json?sort=age").json
        let entries = try #require(found["allocations"] as? [[String: Any]])
        #expect(entries.map { $0["name"] as? String } == ["old", "young"])
        #expect(entries[0]["age"] as? Double ?? 0 >= 2)
    }

    @Test("metrics never tell a name, nor make more than 33 labels of names")
    func labels() throws {
        let http = try HTTPDaemon()
        defer { http.end() }
        let text = try http.daemon.text()
        for index in 0..<100 {
            let line = "alloc space\(index)/private 1\(index)"
            #expect(try text.ask(line) == "OK")
        }
        #expect(try text.ask("alloc wholename 5") == "OK")
        #expect(try text.ask("alloc other/a 5") == "OK")
        #expect(try text.ask("alloc quote\"back\\slash/a 5000") == "OK")
        let metrics = try http.get("/metrics").text
        let lines = metrics.split(separator: "\n")
        let labels = lines.filter { $0.hasPrefix("smalloc_namespace_bytes{") }
        #expect(labels.count == 33)
        #expect(Set(labels.map { $0.prefix { $0 != "}" } }).count == 33)
        #expect(labels[0] == #"smalloc_namespace_bytes{namespace="quote\"back\\slash"} 5000"#)
        #expect(!metrics.contains("private") && !metrics.contains("wholename"))
        var counts = 0
        for line in lines where line.hasPrefix("smalloc_namespace_allocations{") {
            counts += Int(line.split(separator: " ").last ?? "") ?? 0
        }
        #expect(counts == 103)
    }

    @Test("metrics come in the format that is asked for, with histograms that add up")
    func formats() throws {
        let http = try HTTPDaemon()
        defer { http.end() }
        let client = try http.daemon.frames()
        for _ in 0..<50 { #expect(try client.call("ping").status == 0) }
        let plain = try http.get("/metrics")
        #expect(plain.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8")
        #expect(plain.text.contains("\n# TYPE smalloc_requests_total counter\n"))
        #expect(!plain.text.contains("# EOF"))
        let open = try http.get(
            "/metrics",
            ["Accept: application/openmetrics-text;version=1.0.0;q=0.8,text/plain;q=0.5"])
        #expect(
            open.headers["content-type"]
                == "application/openmetrics-text; version=1.0.0; charset=utf-8")
        #expect(open.text.contains("\n# TYPE smalloc_requests counter\n"))
        #expect(open.text.hasSuffix("\n# EOF\n"))
        var last = 0
        var buckets = 0
        for line in open.text.split(separator: "\n")
        where line.hasPrefix(#"smalloc_request_duration_seconds_bucket{operation="ping""#) {
            let count = Int(line.split(separator: " ").last ?? "") ?? -1
            #expect(count >= last)
            last = count
            buckets += 1
        }
        #expect(buckets == 26 && last >= 50)
        let count = #"smalloc_request_duration_seconds_count{operation="ping"} \#(last)"#
        #expect(open.text.contains("\n\(count)\n"))
        let wire = try http.daemon.text().stats()
        #expect(
            open.text.contains("\nsmalloc_limit_frame_bytes \(wire["limit_frame_bytes"] ?? "")\n"))
    }

    @Test(
        "the dashboard and the alerts ask for metrics that there are",
        arguments: [
            "grafana.json", "alerts.yaml",
        ])
    func deployed(file: String) throws {
        let http = try HTTPDaemon()
        defer { http.end() }
        let metrics = try http.get("/metrics").text
        let text = try String(
            contentsOfFile: ProjectFolder.root.path + "/deploy/" + file, encoding: .utf8)
        let asked = Set(text.matches(of: /smalloc_[a-z_]+/).map { String($0.output) })
        #expect(asked.count > 5)
        for name in asked {
            let family = name.hasSuffix("_bucket") ? String(name.dropLast(7)) : name
            #expect(metrics.contains("\n# TYPE \(family) "), "\(name)")
        }
    }
}
