// Mistral's own params.json, in the spelling of a config.json.
#pragma once

#include "checkpoint/json_reader.h"

namespace mxmla {

// Whether the object is a params.json: it has Mistral's names of the sizes and no architecture's.
bool IsMistralParams(const Json& json);

// The same as a config.json of MistralLarge3ForCausalLM. What params.json calls `yarn` scales neither cos and sin nor,
// with apply_scale false, the scores. Errors: kBadConfig (naming the key), kArchitecture for a model without MLA,
// kQuantization.
Json MistralParamsToConfig(const JsonFields& params);

}  // namespace mxmla
