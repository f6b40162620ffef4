import Glibc

/// The ratios to the peers as a picture: a dot for the median, a line from least to most.
struct Plot {
    private static let rowHeight = 18.0
    private static let labelWidth = 210.0
    private static let plotWidth = 520.0
    private static let top = 74.0
    private static let colours = [
        "redis": "#c6302b", "memcached": "#1f6f8b", "nbdkit": "#7a8b1f",
    ]

    private let rows: [(point: String, ratios: [(server: String, value: Statistics)])]
    private let subtitle: String

    init(_ results: Results, subtitle: String) {
        self.subtitle = subtitle
        // A peak over the value is what is left of a subtraction: its ratios say nothing.
        rows = results.points.filter { !$0.hasPrefix("memory/peak") }.compactMap { point in
            let ratios: [(server: String, value: Statistics)] = [
                "redis", "memcached", "nbdkit",
            ].compactMap { server in
                // What ran on fewer processors than it should says nothing of the servers.
                guard results[point, server]?.note.isEmpty ?? false else { return nil }
                return results.advantage(point, "smallocd", over: server).map {
                    (server: server, value: $0)
                }
            }
            return ratios.isEmpty ? nil : (point, ratios)
        }
    }

    /// An SVG document; its scale is logarithmic, from 1/4 to the next power of two.
    var svg: String {
        let most = rows.flatMap { $0.ratios.map(\.value.max) }.max() ?? 4
        var high = 2.0
        while high < min(most, 64) { high *= 2 }
        let low = 0.25
        func x(_ ratio: Double) -> Double {
            let clamped = min(max(ratio, low), high)
            return Self.labelWidth + Self.plotWidth * log2(clamped / low) / log2(high / low)
        }
        let bottom = Self.top + Double(rows.count) * Self.rowHeight
        var lines = [
            """
            <svg xmlns="http://www.w3.org/2000/svg" width="780" height="\(f(bottom + 34))" \
            viewBox="0 0 780 \(f(bottom + 34))" font-family="sans-serif" font-size="11">
            <rect width="100%" height="100%" fill="white"/>
            <text x="12" y="22" font-size="15" font-weight="bold">smallocd against its peers: \
            how many times better</text>
            <text x="12" y="40" fill="#555">\(escaped(subtitle))</text>
            """
        ]
        var legend = 12.0
        for (name, colour) in Self.colours.sorted(by: { $0.key < $1.key }) {
            lines.append(
                """
                <circle cx="\(f(legend + 4))" cy="56" r="4" fill="\(colour)"/>\
                <text x="\(f(legend + 13))" y="60">over \(name)</text>
                """)
            legend += 120
        }
        var tick = low
        while tick <= high {
            let place = f(x(tick))
            let strong = tick == 1
            lines.append(
                """
                <line x1="\(place)" x2="\(place)" y1="\(f(Self.top - 6))" y2="\(f(bottom))" \
                stroke="\(strong ? "#333" : "#ddd")"/>\
                <text x="\(place)" y="\(f(bottom + 16))" text-anchor="middle">\
                \(tick < 1 ? "1/\(Int(1 / tick))" : "\(Int(tick))")</text>
                """)
            tick *= 2
        }
        for (index, row) in rows.enumerated() {
            let middle = Self.top + (Double(index) + 0.5) * Self.rowHeight
            lines.append(
                """
                <text x="\(f(Self.labelWidth - 10))" y="\(f(middle + 4))" text-anchor="end">\
                \(escaped(row.point))</text>
                """)
            for (server, value) in row.ratios {
                let colour = Self.colours[server] ?? "#888"
                let height = middle + (["redis": -4, "nbdkit": 4][server] ?? 0)
                // Beyond the scale: as a number, at its edge.
                if value.median > high {
                    lines.append(
                        """
                        <text x="\(f(x(high) + 7))" y="\(f(height + 4))" fill="\(colour)" \
                        font-size="9">\(Table.number(value.median))</text>
                        """)
                }
                lines.append(
                    """
                    <line x1="\(f(x(value.min)))" x2="\(f(x(value.max)))" y1="\(f(height))" \
                    y2="\(f(height))" stroke="\(colour)" stroke-width="2" opacity="0.45"/>\
                    <circle cx="\(f(x(value.median)))" cy="\(f(height))" r="3.5" fill="\(colour)">\
                    <title>\(escaped(row.point)) over \(server): \
                    \(Table.decimals(value.median, 2))</title></circle>
                    """)
            }
        }
        lines.append("</svg>\n")
        return lines.joined(separator: "\n")
    }

    private func f(_ value: Double) -> String { Table.decimals(value, 1) }

    private func escaped(_ text: String) -> String {
        var result = ""
        for character in text {
            switch character {
            case "&": result += "&amp;"
            case "<": result += "&lt;"
            case ">": result += "&gt;"
            default: result.append(character)
            }
        }
        return result
    }
}
