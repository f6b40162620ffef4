// Figures in columns.

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
