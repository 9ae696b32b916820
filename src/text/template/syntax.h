// The syntax tree of a template.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "text/template/value.h"

namespace mxmla::jinja {

struct Expression;
struct Statement;
using ExpressionPtr = std::unique_ptr<Expression>;
using Expressions = std::vector<ExpressionPtr>;
using Body = std::vector<std::unique_ptr<Statement>>;

// A variable's name as a number.
using Symbol = int;

// The arguments of a call, a filter or a test.
struct Arguments {
  Expressions positional;
  std::vector<std::pair<std::string, ExpressionPtr>> named;
  ExpressionPtr more_positional;  // *list; may be null
  ExpressionPtr more_named;       // **dict; may be null
};

enum class Operation {
  kAdd,
  kSubtract,
  kMultiply,
  kDivide,
  kFloorDivide,
  kModulo,
  kPower,
  kEqual,
  kNotEqual,
  kLess,
  kLessEqual,
  kGreater,
  kGreaterEqual,
  kIn,
  kNotIn,
};

struct Expression {
  enum class Kind {
    kConstant,     // value
    kName,         // symbol
    kTuple,        // operands
    kList,         // operands
    kDict,         // operands: key, value, key, value
    kAttribute,    // operands[0] . name
    kItem,         // operands[0] [ operands[1] ]
    kSlice,        // operands[0] [ operands[1] : operands[2] : operands[3] ], each of the three may be null
    kCall,         // operands[0] ( arguments )
    kFilter,       // operands[0] | name ( arguments ); operands[0] is null for the body of a block
    kTest,         // operands[0] is name ( arguments )
    kNot,          // operands[0]
    kNegative,     // operands[0]
    kPositive,     // operands[0]
    kAnd,          // operands[0], operands[1]
    kOr,           // operands[0], operands[1]
    kArithmetic,   // operands[0] operations[0] operands[1]
    kCompare,      // operands[0] operations[0] operands[1] operations[1] operands[2] ...
    kConcatenate,  // operands
    kConditional,  // operands[1] if operands[0] else operands[2], which may be null
    kNamespace,    // symbol . name, as a target of set
  };

  Kind kind;
  int line;
  int depth = 1;  // levels of expressions
  Symbol symbol = -1;
  std::string name = {};
  Value value = {};
  Expressions operands = {};
  std::vector<Operation> operations = {};
  std::unique_ptr<Arguments> arguments = nullptr;
};

struct Parameter {
  Symbol symbol;
  std::string name;
  ExpressionPtr default_value;  // null where there is none
};

// A macro, or the body of a call block.
struct MacroDefinition {
  std::string name;
  std::vector<Parameter> parameters;
  Body body;
  bool reads_caller = false;
  bool reads_varargs = false;
  bool reads_kwargs = false;
};

struct Statement {
  enum class Kind {
    kData,         // text
    kOutput,       // value
    kFor,          // target in value, where condition (may be null): body; otherwise; is_recursive
    kIf,           // branches, otherwise
    kSet,          // target = value
    kSetBlock,     // target = body, through value (a filter; may be null)
    kMacro,        // macro, bound to symbol
    kCallBlock,    // value (a call) with macro as its caller
    kFilterBlock,  // body through value (a filter)
    kScope,        // body with variables of its own, which begin as assignments say
    kBreak,
    kContinue,
  };

  Kind kind;
  int line;
  Symbol symbol = -1;
  Text text = {};
  ExpressionPtr target = nullptr;
  ExpressionPtr value = nullptr;
  ExpressionPtr condition = nullptr;
  std::vector<std::pair<ExpressionPtr, Body>> branches = {};
  std::vector<std::pair<ExpressionPtr, ExpressionPtr>> assignments = {};
  Body body = {};
  Body otherwise = {};
  bool is_recursive = false;
  std::unique_ptr<MacroDefinition> macro = nullptr;
};

struct Template {
  Body body;
  std::vector<std::string> names;                   // by symbol
  std::unordered_map<std::string, Symbol> symbols;  // by name
  std::unordered_map<std::string, bool> reads;      // names that an expression reads
  Symbol loop = -1;
  Symbol caller = -1;
  Symbol varargs = -1;
  Symbol kwargs = -1;
};

}  // namespace mxmla::jinja
