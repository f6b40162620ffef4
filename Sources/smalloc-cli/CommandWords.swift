// The words of the command line, put into an order that the parser takes as they were meant.

/// The words behind the tool's name.
///
/// The parser knows an option by its dash, and so takes `-1` for one; and it knows options of all
/// subcommands only behind the subcommand. Words are moved, never changed: what the parser says of
/// them is what was typed.
struct CommandWords {
    /// As typed.
    let typed: [String]

    /// Takes them as typed.
    init(_ typed: [String]) { self.typed = typed }

    /// As the parser takes them.
    var arranged: [String] {
        var words = commonOptionsMoved
        if let command = words.first, let options = CommandWords.valuedOptions[command] {
            words = [command] + CommandWords.valuesLast(words.dropFirst(), options)
        }
        return words
    }

    /// Subcommands that take numbers, and their options that take a value.
    ///
    /// Everything else with a dash, and no number, is a flag, or an option that the parser refuses.
    private static let valuedOptions: [String: Set<String>] = [
        "alloc": commonOptions, "truncate": commonOptions, "fill": commonOptions,
        "copy": commonOptions, "hexdump": commonOptions,
        "read": commonOptions.union(["-f", "--format", "-o", "--output"]),
        "write": commonOptions.union(["--input"]),
    ]

    private static let commonOptions: Set<String> = ["--address", "--timeout"]

    /// Options that all subcommands have may also stand before the subcommand: they are moved
    /// behind it, where they are declared.
    private var commonOptionsMoved: [String] {
        var moved: [String] = []
        var rest = typed[...]
        while let word = rest.first {
            let takesValue = CommandWords.commonOptions.contains(word)
            let isCommon =
                takesValue || word == "--json" || word.hasPrefix("--address=")
                || word.hasPrefix("--timeout=")
            guard isCommon else { break }
            moved += rest.prefix(takesValue ? 2 : 1)
            rest = rest.dropFirst(takesValue ? 2 : 1)
        }
        // Here it ends nothing but the options that have just been moved.
        if rest.first == "--" { rest = rest.dropFirst() }
        // Without a subcommand there is nowhere to move them to; the parser then tells so.
        guard let command = rest.first, !command.hasPrefix("-") else { return typed }
        return [command] + moved + rest.dropFirst()
    }

    /// Options first, then `--` and all the rest, so that no number is taken for an option.
    private static func valuesLast(
        _ words: ArraySlice<String>, _ valuedOptions: Set<String>
    ) -> [String] {
        var options: [String] = []
        var values: [String] = []
        var rest = words
        while let word = rest.popFirst() {
            if word == "--" {
                values += rest
                break
            }
            guard word.hasPrefix("-"), word != "-", !isNegativeNumber(word) else {
                values.append(word)
                continue
            }
            options.append(word)
            if valuedOptions.contains(word), let value = rest.first, value != "--" {
                options.append(value)
                rest = rest.dropFirst()
            }
        }
        return options + (values.isEmpty ? [] : ["--"] + values)
    }

    /// Whether it begins as a number does, or is -Infinity or -NaN.
    private static func isNegativeNumber(_ word: String) -> Bool {
        let magnitude = word.dropFirst().lowercased()
        if ["infinity", "inf", "nan"].contains(magnitude) { return true }
        return magnitude.first.map { $0.isASCII && $0.isNumber || $0 == "." } ?? false
    }
}
