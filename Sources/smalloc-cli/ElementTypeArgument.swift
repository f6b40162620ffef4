// An element type as it stands on the command line.

import ArgumentParser
import Smalloc

/// An element type on the command line: a name in any case, or 1 to 9.
struct ElementTypeArgument: ExpressibleByArgument {
    /// The type.
    let type: ElementType

    init?(argument: String) {
        guard let type = ElementType(named: argument) else { return nil }
        self.type = type
    }

    static let allValueStrings = ElementType.allCases.map { $0.name.lowercased() }
}
