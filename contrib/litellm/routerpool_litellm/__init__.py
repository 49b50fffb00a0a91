"""routerpool inside a LiteLLM proxy: one `routerpool.yaml` beside LiteLLM's `config.yaml`, and dotted paths in that.

    litellm_settings:
      callbacks: ["routerpool_litellm.hooks.handler"]         # what is sent, failures, usage, headers, the last check
      custom_provider_map:                                    # the whole router as one provider, routerpool/<profile>
        - {provider: routerpool, custom_handler: routerpool_litellm.llm.handler}
    router_settings:
      plugins: ["routerpool_litellm.routing.plugin"]          # who is asked
    guardrails:
      - guardrail_name: routerpool
        litellm_params:
          {guardrail: routerpool_litellm.guard.PrivacyGuard, mode: pre_call, default_on: true}

Any of them works without the others, except that the routing plugin needs the callback. `takeover.handler` in the place
of both chooses the deployment itself. All of a process share one router, which lives on LiteLLM's loop.
"""
