#include "validators/schema.h"

#include <nlohmann/json.hpp>
#include <string_view>

#include "engine/backend_id.h"
#include "validators/contract_keys.h"
#include "validators/stage_status.h"

namespace refute {
namespace {

using Json = nlohmann::ordered_json;

Json text_schema() { return {{"type", "string"}, {"minLength", 1}}; }

Json list_of(Json items) { return {{"type", "array"}, {"items", std::move(items)}}; }

Json one_or_more_of(Json items) {
  Json schema = list_of(std::move(items));
  schema["minItems"] = 1;
  return schema;
}

Json backend_schema() {
  Json names = Json::array();
  for (const BackendId id : kAllBackends) names.push_back(backend_name(id));
  return {{"enum", std::move(names)}};
}

Json status_schema() {
  Json words = Json::array();
  for (const std::string_view word : status_words()) words.push_back(word);
  return {{"enum", std::move(words)}};
}

Json shapes_schema() {
  Json symbols = Json::array();
  for (const std::string_view symbol : shape_symbols()) symbols.push_back(symbol);
  Json bound = {{"anyOf", {{{"type", "integer"}, {"minimum", 1}}, {{"enum", symbols}}}}};
  Json relations = Json::object();
  for (const std::string_view relation : shape_relations()) relations[relation] = bound;
  return {{"type", "object"},
          {"propertyNames", {{"enum", symbols}}},
          {"additionalProperties",
           {{"type", "object"},
            {"properties", std::move(relations)},
            {"additionalProperties", false},
            {"minProperties", 1}}}};
}

Json value_schema(ValueType type) {
  switch (type) {
    case ValueType::kId:
      return {{"type", "string"}, {"pattern", "^[A-Za-z0-9][A-Za-z0-9._-]*$"}};
    case ValueType::kVersion:
      return {{"type", "string"},
              {"pattern", R"(^(0|[1-9][0-9]*)\.(0|[1-9][0-9]*)\.(0|[1-9][0-9]*)$)"}};
    case ValueType::kText:
      return text_schema();
    case ValueType::kStatus:
      return status_schema();
    case ValueType::kIdList:
      return one_or_more_of(text_schema());
    case ValueType::kTextList:
      return list_of(text_schema());
    case ValueType::kBackendList:
      return one_or_more_of(backend_schema());
    case ValueType::kCount:
      return {{"type", "integer"}, {"minimum", 1}, {"maximum", kMaxCases}};
    case ValueType::kGates:
      return {{"type", "object"}, {"additionalProperties", {{"type", "number"}, {"minimum", 0}}}};
    case ValueType::kReasons:
      return {{"type", "object"}, {"additionalProperties", text_schema()}};
    case ValueType::kEvidence:
      return {{"const", "validation"}};
    case ValueType::kShapes:
      return shapes_schema();
    case ValueType::kStages:
      return one_or_more_of({{"$ref", "#/$defs/stage"}});
    case ValueType::kAcceptance:
      return one_or_more_of({{"$ref", "#/$defs/acceptance"}});
    case ValueType::kFalsifiers:
      return one_or_more_of({{"$ref", "#/$defs/falsifier"}});
  }
  return Json::object();
}

Json block_schema(std::span<const KeyInfo> keys) {
  Json properties = Json::object();
  Json required = Json::array();
  for (const KeyInfo& key : keys) {
    properties[key.name] = value_schema(key.type);
    properties[key.name]["description"] = key.meaning;
    if (key.required) required.push_back(key.name);
  }
  return {{"type", "object"},
          {"properties", std::move(properties)},
          {"required", std::move(required)},
          {"additionalProperties", false}};
}

}  // namespace

std::string contract_schema() {
  Json schema = {{"$schema", "https://json-schema.org/draft/2020-12/schema"},
                 {"title", "A contract of refute"}};
  schema.update(block_schema(contract_keys()));
  for (const std::string_view key : dialect_keys()) {
    if (schema["properties"].contains(key)) continue;
    schema["properties"][key] = {{"description", "Prose of the public dialect."}};
  }
  Json stage = block_schema(stage_keys());
  stage["oneOf"] = {{{"required", {"needs"}}}, {{"required", {"evidence"}}}};
  schema["$defs"] = {{"stage", std::move(stage)},
                     {"acceptance", block_schema(acceptance_keys())},
                     {"falsifier", block_schema(falsifier_keys())}};
  return schema.dump(2) + "\n";
}

}  // namespace refute
