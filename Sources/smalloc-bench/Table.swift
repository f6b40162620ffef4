/// Columns of text, the first flush left and the others flush right.
struct Table {
    private var rows: [[String]]

    init(_ head: [String]) { rows = [head] }

    mutating func add(_ row: [String]) { rows.append(row) }

    var text: String {
        let columns = rows.map(\.count).max() ?? 0
        let widths = (0..<columns).map { column in
            rows.map { column < $0.count ? $0[column].count : 0 }.max() ?? 0
        }
        return rows.map { row in
            let cells = row.enumerated().map { column, cell in
                let space = String(repeating: " ", count: widths[column] - cell.count)
                return column == 0 ? cell + space : space + cell
            }
            return cells.joined(separator: "  ") + "\n"
        }.joined()
    }

    /// A number with as many digits as it deserves: three significant ones, thousands whole.
    static func number(_ value: Double) -> String {
        if value.isNaN || value.isInfinite { return "-" }
        if abs(value) >= 1e6 { return decimals(value / 1e6, 2) + "M" }
        if abs(value) >= 1e4 { return decimals(value / 1e3, abs(value) >= 1e5 ? 0 : 1) + "k" }
        if abs(value) >= 100 { return decimals(value, 0) }
        return decimals(value, abs(value) >= 10 ? 1 : 2)
    }

    static func decimals(_ value: Double, _ places: Int) -> String {
        var scale = 1.0
        for _ in 0..<places { scale *= 10 }
        let scaled = Int((abs(value) * scale).rounded())
        let sign = value < 0 && scaled > 0 ? "-" : ""
        guard places > 0 else { return sign + "\(scaled)" }
        let fraction = String(scaled % Int(scale))
        let zeros = String(repeating: "0", count: places - fraction.count)
        return "\(sign)\(scaled / Int(scale)).\(zeros)\(fraction)"
    }
}

extension Results {
    /// The whole table: medians with least and most of the rounds, latency of a batch, server
    /// processor time a job, resident memory, and how many times smallocd's figure is theirs.
    var text: String {
        var table = Table([
            "point", "server", "median", "min", "max", "unit", "p50 us", "p99 us", "CPU ns/job",
            "RSS MiB", "smallocd is x",
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
                    cell(one.median(\.processor)),
                    cell(one.median(\.resident).map { $0 / 1_048_576 }),
                    ratio.map { Table.decimals($0.median, 2) } ?? "",
                ])
            }
        }
        return table.text
    }
}

extension Results {
    /// What the load generator drives a server with that only answers, in the protocol of each
    /// server, and how much of the time it had nothing to do: as long as that is not nothing, the
    /// server is what limits.
    ///
    /// Empty if that was not measured.
    var calibration: String {
        var table = Table(["point", "server", "server's", "raw C's", "load idle", "idle, raw C"])
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
                ])
            }
        }
        return isEmpty ? "" : table.text
    }
}
