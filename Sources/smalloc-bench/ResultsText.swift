// The tables of a run.

extension Results {
    /// The whole table: medians with least and most of the rounds, latency of a batch, server
    /// processor time a job, resident memory, and how many times smallocd's figure is theirs.
    var text: String {
        var table = Table([
            "point", "server", "median", "min", "max", "unit", "p50 us", "p99 us", "due p99",
            "CPU ns/job",
            "RSS MiB", "smallocd is x", "",
        ])
        for point in points {
            for one in series where one.point == point {
                guard let statistics = one.statistics else { continue }
                func cell(_ value: Double?) -> String { value.map { Table.number($0) } ?? "" }
                let ratio =
                    one.server == "smallocd"
                    ? nil : advantage(point, "smallocd", over: one.server)
                table.add([
                    point, one.server, Table.number(statistics.median),
                    Table.number(statistics.min), Table.number(statistics.max), one.unit.rawValue,
                    cell(one.median(\.p50)), cell(one.median(\.p99)),
                    cell(one.median(\.p99OfDue)),
                    cell(one.median(\.processor)),
                    cell(one.median(\.resident).map { $0 / 1_048_576 }),
                    ratio.map { Table.decimals($0.median, 2) } ?? "", one.note,
                ])
            }
        }
        return table.text
    }
}

extension Results {
    /// What the load generator drives a server with that only answers, in the protocol of each
    /// server.
    ///
    /// And how much of the time either of the two was busy: the load generator limits where it is
    /// never idle and that server is not always busy. Empty if that was not measured.
    var calibration: String {
        var table = Table([
            "point", "server", "server's", "raw C's", "load idle", "idle, raw C", "raw C busy",
        ])
        var isEmpty = true
        let pairs = [
            ("smallocd", "raw C"), ("redis", "raw C, RESP"), ("memcached", "raw C, memcached"),
        ]
        for point in points {
            for (server, raw) in pairs {
                guard let own = self[point, server], let yardstick = self[point, raw],
                    let idle = own.median(\.idle), let ownFigure = own.statistics?.median,
                    let rawFigure = yardstick.statistics?.median
                else { continue }
                isEmpty = false
                func percent(_ part: Double?) -> String {
                    part.map { Table.decimals($0 * 100, 0) + " %" } ?? ""
                }
                table.add([
                    point, server, Table.number(ownFigure), Table.number(rawFigure),
                    percent(idle), percent(yardstick.median(\.idle)),
                    percent(yardstick.busy),
                ])
            }
        }
        return isEmpty ? "" : table.text
    }
}

extension Results {
    /// How the figures of smallocd and of its peers grow with the loops, and with what is held:
    /// each as a multiple of the first.
    ///
    /// Empty if that was not measured.
    var growth: String {
        var table = Table(["point", "server", "first", "then", "last", ""])
        var isEmpty = true
        func add(_ points: [String], _ servers: [String]) {
            for server in servers {
                let all = points.compactMap { self[$0, server] }
                let medians = all.compactMap(\.statistics?.median)
                guard medians.count == points.count, let first = medians.first, first > 0 else {
                    continue
                }
                isEmpty = false
                table.add(
                    [points[0], server] + medians.map { Table.decimals($0 / first, 2) }
                        + [all.last?.note ?? ""])
            }
        }
        for verb in ["read", "write"] {
            add(
                PointCatalog.loopCounts.map { "loops/\($0)/\(verb)/64B/50x16" },
                ["smallocd", "memcached"])
        }
        for verb in ["read", "alloc"] {
            add(
                PointCatalog.scaleCounts.map { "scale/\($0)/\(verb)/64B/50x16" },
                ["smallocd", "redis", "memcached"])
        }
        return isEmpty ? "" : table.text
    }

    /// What the columns mean.
    static let legend = """
        1x1, 50x16: so many connections, each with so many requests in flight, sent together. \
        median, min, max: of the rounds. p50, p99: of a batch or a job, from its first byte sent \
        to its last byte received; due p99: of requests due every 100 us, which a standstill holds \
        up. CPU: the server's, kernel included. smallocd is x: how many \
        times better than this one, the median of the rounds' ratios. raw C: a server in C that \
        only answers. C ping-pong, C one way: two threads in C on one socket, without a poll. \
        smallocd asks again for up to 50 us before it sleeps; with busy-poll 0 it does not.
        """
}
