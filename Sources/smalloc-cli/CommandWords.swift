// The words of the command line, put into an order that the parser takes as they were meant.

/// The words behind the tool's name.
///
/// The parser knows an option by its dash, and so takes `-1` for one. Words are moved, never
/// changed: what the parser says of them is what was typed.
struct CommandWords {
    /// As typed.
    let typed: [String]

    /// Takes them as typed.
    init(_ typed: [String]) { self.typed = typed }

    /// As the parser takes them.
    var arranged: [String] {
        var options: [String] = []
        var rest = typed[...]
        // Options that all subcommands have may stand before the subcommand; three dashes begin
        // what the shells' completions ask.
        while let word = rest.first, word.hasPrefix("--"), word != "--", !word.hasPrefix("---") {
            let size = CommandWords.commonOptions.contains(word) ? 2 : 1
            options += rest.prefix(size)
            rest = rest.dropFirst(size)
        }
        // Here it ends nothing but these options.
        if rest.first == "--" { rest = rest.dropFirst() }
        guard let command = rest.first, let valued = CommandWords.valuedOptions[command] else {
            return options + rest
        }
        return options + [command] + CommandWords.valuesLast(rest.dropFirst(), valued)
    }

    /// Subcommands that take numbers, and their options that take a value.
    ///
    /// Everything else with a dash, and no number, is a flag, or an option that the parser refuses.
    private static let valuedOptions: [String: Set<String>] = [
        "alloc": commonOptions.union(["--shape", "--meta", "--lease"]), "truncate": commonOptions,
        "fill": commonOptions, "copy": commonOptions, "hexdump": commonOptions,
        "atomic": commonOptions, "notify": commonOptions, "wait": commonOptions.union(["--for"]),
        "read": commonOptions.union(["-f", "--format", "-o", "--output"]),
        "write": commonOptions.union(["--input", "--from", "--skip"]),
    ]

    private static let commonOptions: Set<String> = ["--address", "--timeout"]

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
