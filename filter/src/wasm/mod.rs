//! The edge to Envoy: the only code that knows the SDK and the ABI.

mod abi;
mod host;
mod plugin;

proxy_wasm::main! {{
    proxy_wasm::set_root_context(|_| Box::new(plugin::Root::default()));
}}
