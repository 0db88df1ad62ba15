export { digitsOfPhone as phoneOf } from "../../plugins/sdk/phone.ts";
