"""GraphQL executor over plain dicts, without a schema.

A node is a dict from field names to values, or to callables that take the field's arguments. A
field that a node does not have is answered null and noted, so that a newer SDK shows what it newly
asks for.
"""

from typing import Any

from graphql import parse, value_from_ast_untyped
from graphql.language import (
    DirectiveNode,
    DocumentNode,
    FieldNode,
    FragmentDefinitionNode,
    FragmentSpreadNode,
    InlineFragmentNode,
    OperationDefinitionNode,
    SelectionSetNode,
)

Node = dict[str, Any]


class GraphQLError(Exception):
    """Error raised by a resolver, returned in `errors`."""


class Document:
    """One request: the operation asked for, its fragments and its variables."""

    def __init__(self, query: str, operation: str | None, variables: Node | None) -> None:
        document: DocumentNode = parse(query, no_location=True)
        operations = [d for d in document.definitions if isinstance(d, OperationDefinitionNode)]
        named = [o for o in operations if operation and o.name and o.name.value == operation]
        self.operation = (named or operations)[0]
        self.fragments = {
            d.name.value: d for d in document.definitions if isinstance(d, FragmentDefinitionNode)
        }
        self.kind = self.operation.operation.value
        self.name = self.operation.name.value if self.operation.name else self.kind
        defaults = {
            v.variable.name.value: value_from_ast_untyped(v.default_value)
            for v in self.operation.variable_definitions or ()
            if v.default_value is not None
        }
        self.variables: Node = {**defaults, **(variables or {})}
        self.missing: set[str] = set()

    def answer(self, root: Node) -> Node:
        """Resolve the operation's fields of `root`; unknown ones are recorded in `missing`."""
        return self._project(root, self.operation.selection_set, self.name)

    def _project(self, value: Any, selection: SelectionSetNode | None, path: str) -> Any:
        if value is None or selection is None:
            return value
        if isinstance(value, list | tuple):
            return [self._project(item, selection, path) for item in value]
        answer: Node = {}
        for part in selection.selections:
            if self._left_out(part.directives):
                continue
            if isinstance(part, FieldNode):
                key = part.alias.value if part.alias else part.name.value
                _merge(answer, {key: self._field(value, part, path)})
                continue
            fragment: Any = part
            if isinstance(part, FragmentSpreadNode):
                fragment = self.fragments[part.name.value]
            else:
                assert isinstance(part, InlineFragmentNode)
            condition = fragment.type_condition and fragment.type_condition.name.value
            types = (value.get("__typename"), *value.get("__interfaces__", ()))
            if condition is None or condition in types or "__typename" not in value:
                _merge(answer, self._project(value, fragment.selection_set, path))
        return answer

    def _field(self, node: Node, field: FieldNode, path: str) -> Any:
        name = field.name.value
        if name not in node:
            self.missing.add(f"{node.get('__typename', path)}.{name}")
            return None
        value = node[name]
        if callable(value):
            arguments = {
                a.name.value: value_from_ast_untyped(a.value, self.variables)
                for a in field.arguments or ()
            }
            value = value(arguments)
        return self._project(value, field.selection_set, f"{path}.{name}")

    def _left_out(self, directives: tuple[DirectiveNode, ...] | None) -> bool:
        for directive in directives or ():
            condition = value_from_ast_untyped(directive.arguments[0].value, self.variables)
            if bool(condition) == (directive.name.value == "skip"):
                return True
        return False


def _merge(answer: Node, more: Node) -> None:
    for key, value in more.items():
        both = isinstance(answer.get(key), dict) and isinstance(value, dict)
        answer[key] = {**answer[key], **value} if both else value
