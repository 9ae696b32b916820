// The rotary embedding of a config.json.
#pragma once

#include "checkpoint/json_reader.h"
#include "checkpoint/model_family.h"

namespace mxmla {

// Sets `rope` and `query_scale`; the sizes of `config` have been read. rope_scaling wins over rope_parameters, and a
// theta inside either over one beside it, as in transformers. Errors: kBadConfig, naming the key.
void ReadRope(const JsonFields& fields, const Family& family, ModelConfig* config);

}  // namespace mxmla
