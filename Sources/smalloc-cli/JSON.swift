// JSON as it is printed: no parser, no Foundation, keys in the order given.

/// A JSON value.
enum JSON {
    case string(String)
    case integer(Int)
    case number(Double)
    case array([JSON])
    case object([(String, JSON)])
    case null

    /// A shape; null for none.
    init(_ shape: [Int]?) {
        self = shape.map { .array($0.map(JSON.integer)) } ?? .null
    }

    /// The value on one line.
    var text: String {
        switch self {
        case .string(let value): return JSON.quoted(value)
        case .integer(let value): return String(value)
        // JSON has no words for these; the strings read back in text mode and in JavaScript.
        case .number(let value) where !value.isFinite: return JSON.quoted(elementText(value))
        case .number(let value): return elementText(value)
        case .array(let values): return "[" + values.map(\.text).joined(separator: ",") + "]"
        case .object(let members):
            let parts = members.map { JSON.quoted($0.0) + ":" + $0.1.text }
            return "{" + parts.joined(separator: ",") + "}"
        case .null: return "null"
        }
    }

    private static func quoted(_ text: String) -> String {
        var quoted = "\""
        for scalar in text.unicodeScalars {
            switch scalar {
            case "\"": quoted += "\\\""
            case "\\": quoted += "\\\\"
            case "\n": quoted += "\\n"
            case "\r": quoted += "\\r"
            case "\t": quoted += "\\t"
            case _ where scalar.value < 0x20 || scalar.value == 0x7F:
                let digits = String(scalar.value, radix: 16)
                quoted += "\\u" + String(repeating: "0", count: 4 - digits.count) + digits
            default: quoted.unicodeScalars.append(scalar)
            }
        }
        return quoted + "\""
    }
}
