// A request's failure, in the forms that clients expect.
#pragma once

#include <exception>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>

#include "serve/http.h"

namespace mxmla::serve {

enum class ErrorForm { kOpenAi, kAnthropic };

struct ApiError : std::exception {
  int status = 400;
  std::string type = "invalid_request_error";
  std::string message;
  std::string param;  // the field that is wrong, if one is
  std::string code;

  ApiError(int http_status, std::string error_type, std::string text, std::string field = {},
           std::string error_code = {})
      : status(http_status),
        type(std::move(error_type)),
        message(std::move(text)),
        param(std::move(field)),
        code(std::move(error_code)) {}
  const char* what() const noexcept override { return message.c_str(); }

  // OpenAI's {"error": {"message", "type", "param", "code"}}, or Anthropic's {"type": "error", "error": {"type",
  // "message"}}, whose type follows from the status.
  nlohmann::ordered_json Json(ErrorForm form = ErrorForm::kOpenAi) const;
};

// Status 400 for `field`: "FIELD: expected EXPECTED, found FOUND".
[[noreturn]] void RefuseField(const std::string& field, const std::string& expected, const std::string& found);

// What an exception of the engine means to a client: the fault of a request (400), of the load (503) or of the server
// (500).
ApiError ToApiError(const std::exception_ptr& error);

void RespondJson(Responder& responder, int status, const nlohmann::ordered_json& json, HttpHeaders headers = {});
void RespondError(Responder& responder, const ApiError& error, ErrorForm form = ErrorForm::kOpenAi);
// The text; what is no UTF-8 in it is replaced.
std::string DumpJson(const nlohmann::ordered_json& json);

}  // namespace mxmla::serve
